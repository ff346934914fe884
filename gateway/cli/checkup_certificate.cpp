#include "gateway/cli/checkup.hpp"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

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
struct key_free {
  void operator()(EVP_PKEY* key) const {
    EVP_PKEY_free(key);
  }
};
using key_ptr = std::unique_ptr<EVP_PKEY, key_free>;
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
  if (X509_cmp_current_time(X509_get0_notBefore(&certificate)) > 0) {
    return {verdict::fail, "certificate", path.string() + " is not valid yet",
            "look at the machine's clock"};
  }
  if (left < warning_days) {
    return {verdict::warn, "certificate",
            path.string() + " expires in " + std::to_string(left) + " days",
            "renew it, then send the daemon SIGHUP"};
  }
  return {verdict::ok,
          "certificate",
          path.string() + ", valid for " + std::to_string(left) + " more days",
          {}};
}

/// What would keep the daemon from using it; none where there is no certificate to compare it with.
std::optional<finding> judge_key(const std::filesystem::path& path, X509* certificate) {
  auto file = open_file(path);
  if (!file) {
    return finding{verdict::fail, "certificate", "the key " + path.string() + " cannot be read",
                   "let the daemon's user read it, or set http.tls_key to another file"};
  }
  // Without it OpenSSL would ask whoever sits at the terminal.
  auto no_password = [](char*, int, int, void*) {
    return -1;
  };
  key_ptr key{PEM_read_PrivateKey(file.get(), nullptr, no_password, nullptr)};
  if (!key) {
    return finding{verdict::fail, "certificate",
                   path.string() + " is no key in PEM, or is encrypted",
                   "set http.tls_key to the certificate's key, not encrypted"};
  }
  if (certificate && X509_check_private_key(certificate, key.get()) != 1) {
    return finding{verdict::fail, "certificate",
                   "the key " + path.string() + " is not the certificate's",
                   "give both files of one pair"};
  }
  return std::nullopt;
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
  if (auto wrong = judge_key(key, certificate.get())) {
    out.push_back(std::move(*wrong));
  }
  return out;
}

} // namespace coppice::cli
