#include "gateway/cli/checkup.hpp"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdio>
#include <memory>
#include <string>

namespace coppice::cli {
namespace {

constexpr int warning_days = 14;

struct file_closer {
  void operator()(std::FILE* file) const {
    std::fclose(file);
  }
};
struct certificate_free {
  void operator()(X509* certificate) const {
    X509_free(certificate);
  }
};
using certificate_ptr = std::unique_ptr<X509, certificate_free>;
using file_ptr = std::unique_ptr<std::FILE, file_closer>;

file_ptr open_file(const std::filesystem::path& path) {
  return file_ptr{std::fopen(path.c_str(), "re")};
}

/// Days until then; negative when it is over.
int days_until(const ASN1_TIME* when) {
  int days = 0;
  int seconds = 0;
  if (ASN1_TIME_diff(&days, &seconds, nullptr, when) != 1) {
    return -1;
  }
  return seconds < 0 && days == 0 ? -1 : days;
}

finding judge(const std::filesystem::path& path, const X509& certificate) {
  auto left = days_until(X509_get0_notAfter(&certificate));
  if (left < 0) {
    return {verdict::fail, "certificate", path.string() + " has expired",
            "renew it, then send the daemon SIGHUP"};
  }
  if (left < warning_days) {
    return {verdict::warn, "certificate",
            path.string() + " expires in " + std::to_string(left) + " days",
            "renew it, then send the daemon SIGHUP"};
  }
  if (days_until(X509_get0_notBefore(&certificate)) > 0) {
    return {verdict::fail, "certificate", path.string() + " is not valid yet",
            "look at the machine's clock"};
  }
  return {verdict::ok,
          "certificate",
          path.string() + ", valid for " + std::to_string(left) + " more days",
          {}};
}

} // namespace

std::vector<finding> check_certificate(const settings& values) {
  const auto& path = values.http.tls_certificate;
  const auto& key = values.http.tls_key;
  if (path.empty() && key.empty()) {
    return {};
  }
  if (path.empty() || key.empty()) {
    return {{verdict::fail, "certificate",
             "only one of http.tls_certificate and http.tls_key is set", "set both, or neither"}};
  }
  std::vector<finding> out;
  auto file = open_file(path);
  certificate_ptr certificate{file ? PEM_read_X509(file.get(), nullptr, nullptr, nullptr)
                                   : nullptr};
  if (!certificate) {
    out.push_back({verdict::fail, "certificate",
                   path.string() + " is no certificate in PEM, or "
                                   "cannot be read",
                   "set http.tls_certificate to one that the daemon's user can read"});
  } else {
    out.push_back(judge(path, *certificate));
  }
  if (!open_file(key)) {
    out.push_back({verdict::fail, "certificate", "the key " + key.string() + " cannot be read",
                   "let the daemon's user read it, or set http.tls_key to another file"});
  }
  return out;
}

} // namespace coppice::cli
