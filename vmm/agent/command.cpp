#include "vmm/agent/command.hpp"

#include <algorithm>

namespace coppice::agent {
namespace {

std::string_view view(capnp::Text::Reader text) {
  return {text.begin(), text.size()};
}

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

void set(std::vector<std::string>& environment, std::string_view name, std::string_view value) {
  std::string variable{name};
  variable += '=';
  variable += value;
  auto at = std::find_if(environment.begin(), environment.end(),
                         [&](const std::string& v) { return name_of(v) == name; });
  if (at == environment.end()) {
    environment.push_back(std::move(variable));
  } else {
    *at = std::move(variable);
  }
}

bool has(const std::vector<std::string>& environment, std::string_view name) {
  return std::any_of(environment.begin(), environment.end(),
                     [&](const std::string& v) { return name_of(v) == name; });
}

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view{"_-./:,+@%"}.find(c) != std::string_view::npos;
}

} // namespace

std::string shell_quoted(std::string_view word) {
  if (!word.empty() && std::all_of(word.begin(), word.end(), is_plain)) {
    return std::string{word};
  }
  std::string out = "'";
  for (char c : word) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::vector<std::string> merged_environment(std::initializer_list<variable_list> layers,
                                            const identity& who) {
  std::vector<std::string> out;
  for (auto list : layers) {
    for (auto variable : list) {
      auto name = view(variable.getName());
      if (!name.empty() && name.find('=') == name.npos) {
        set(out, name, view(variable.getValue()));
      }
    }
  }
  if (!has(out, "PATH")) {
    set(out, "PATH", default_path);
  }
  if (!has(out, "HOME")) {
    set(out, "HOME", !who.home.empty() ? who.home : who.uid == 0 ? "/root" : "/");
  }
  return out;
}

std::vector<std::string> executable_candidates(std::string_view name, std::string_view path) {
  std::vector<std::string> out;
  if (name.empty()) {
    return out;
  }
  if (name.find('/') != name.npos) {
    out.emplace_back(name);
    return out;
  }
  while (true) {
    auto colon = std::min(path.find(':'), path.size());
    std::string candidate{path.substr(0, colon)};
    if (!candidate.empty() && candidate.back() != '/') {
      candidate += '/';
    }
    out.push_back((candidate.empty() ? "./" : candidate) + std::string{name});
    if (colon == path.size()) {
      return out;
    }
    path.remove_prefix(colon + 1);
  }
}

command_line make_command_line(proto::ProcessSpec::Reader process, proto::ImageConfig::Reader image,
                               const identity& who, proto::ProcessSpec::Reader beside) {
  command_line out;
  out.environment = merged_environment({image.getEnv(), beside.getEnv(), process.getEnv()}, who);
  auto command = std::string{view(process.getCommand())};
  if (!process.getShell()) {
    out.argv.push_back(command);
    for (auto argument : process.getArgs()) {
      out.argv.emplace_back(view(argument));
    }
  } else if (command.empty()) {
    out.argv = {"/bin/sh", "-s"};
    for (auto argument : process.getArgs()) {
      out.argv.emplace_back(view(argument));
    }
  } else {
    for (auto argument : process.getArgs()) {
      command += ' ';
      command += shell_quoted(view(argument));
    }
    out.argv = {"/bin/sh", "-c", command};
  }
  auto path = std::find_if(out.environment.begin(), out.environment.end(),
                           [](const std::string& v) { return name_of(v) == "PATH"; });
  out.candidates =
      executable_candidates(out.argv.front(), std::string_view{*path}.substr(sizeof("PATH=") - 1));
  return out;
}

} // namespace coppice::agent
