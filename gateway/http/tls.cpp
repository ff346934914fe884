#include "gateway/http/tls.hpp"

#include <openssl/ssl.h>

#include <string>

namespace coppice::gateway {
namespace {

namespace ssl = boost::asio::ssl;

failure cannot_use(const char* setting, const std::filesystem::path& file, const std::string& why,
                   const char* remedy) {
  return failure{std::make_error_code(std::errc::invalid_argument),
                 std::string{setting} + " = " + file.string() + ": " + why + "; " + remedy};
}

} // namespace

result<tls_context> load_tls(const std::filesystem::path& certificate,
                             const std::filesystem::path& key) {
  auto out = std::make_shared<ssl::context>(ssl::context::tls_server);
  auto* native = out->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  // Idle connections give their buffers back: there are thousands.
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  boost::system::error_code error;
  // Without it OpenSSL would ask whoever sits at the terminal.
  out->set_password_callback(
      [](std::size_t, ssl::context::password_purpose) { return std::string{}; }, error);
  out->use_certificate_chain_file(certificate.string(), error);
  if (error) {
    return cannot_use("http.tls_certificate", certificate, error.message(),
                      "it must be a PEM file that the daemon's user can read");
  }
  out->use_private_key_file(key.string(), ssl::context::pem, error);
  if (error) {
    return cannot_use("http.tls_key", key, error.message(),
                      "it must be the certificate's key as a PEM file that is not encrypted and "
                      "that the daemon's user can read");
  }
  if (SSL_CTX_check_private_key(native) != 1) {
    return cannot_use("http.tls_key", key, "it is not the key of the certificate",
                      "give both files of one pair");
  }
  return out;
}

} // namespace coppice::gateway
