#pragma once

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

namespace coppice::test {

/// A certificate that signs itself, and its key, as two PEM files.
struct certificate_files {
  std::filesystem::path certificate;
  std::filesystem::path key;
};

/// Valid from `begin_seconds` until `valid_seconds` from now, for localhost and the loopback
/// address.
inline certificate_files make_certificate(const std::filesystem::path& folder,
                                          const std::string& name, long valid_seconds = 86'400,
                                          long begin_seconds = -3600) {
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key{EVP_EC_gen("P-256"), &EVP_PKEY_free};
  std::unique_ptr<X509, decltype(&X509_free)> made{X509_new(), &X509_free};
  auto* certificate = made.get();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), begin_seconds);
  X509_gmtime_adj(X509_getm_notAfter(certificate), valid_seconds);
  X509_set_pubkey(certificate, key.get());
  auto* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate, subject);
  if (X509_sign(certificate, key.get(), EVP_sha256()) == 0) {
    throw std::runtime_error{"cannot make a certificate"};
  }
  certificate_files out{folder / (name + ".pem"), folder / (name + ".key")};
  std::unique_ptr<std::FILE, decltype(&std::fclose)> public_file{
      std::fopen(out.certificate.c_str(), "w"), &std::fclose};
  std::unique_ptr<std::FILE, decltype(&std::fclose)> secret_file{std::fopen(out.key.c_str(), "w"),
                                                                 &std::fclose};
  if (!public_file || !secret_file || PEM_write_X509(public_file.get(), certificate) != 1 ||
      PEM_write_PrivateKey(secret_file.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
          1) {
    throw std::runtime_error{"cannot write a certificate"};
  }
  return out;
}

} // namespace coppice::test
