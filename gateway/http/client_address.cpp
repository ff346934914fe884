#include "gateway/http/client_address.hpp"

#include <boost/asio/ip/address_v4.hpp>
#include <boost/asio/ip/address_v6.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace coppice::gateway {
namespace {

namespace ip = boost::asio::ip;

/// The longest text of an IPv6 address; longer ones need not be looked at.
constexpr std::size_t address_text_bytes_max = 45;

/// Proxies behind each other; a longer list is some client's play.
constexpr int proxies_max = 32;

std::string_view trim(std::string_view text) {
  auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::optional<ip_address> parse_address(std::string_view text) {
  if (text.starts_with('[') && text.ends_with(']')) {
    text = text.substr(1, text.size() - 2);
  }
  if (text.size() > address_text_bytes_max) {
    return std::nullopt;
  }
  boost::system::error_code error;
  auto address = ip::make_address(std::string{text}, error);
  if (error) {
    return std::nullopt;
  }
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    return ip::make_address_v4(ip::v4_mapped, address.to_v6());
  }
  return address;
}

bool share_bits(const unsigned char* a, const unsigned char* b, unsigned bits) {
  auto whole = bits / 8;
  if (!std::equal(a, a + whole, b)) {
    return false;
  }
  return bits % 8 == 0 || (a[whole] >> (8 - bits % 8)) == (b[whole] >> (8 - bits % 8));
}

} // namespace

ip_address address_of(const sockaddr& peer) {
  if (peer.sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(peer);
    return ip::address_v4{ntohl(v4.sin_addr.s_addr)};
  }
  if (peer.sa_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(peer);
    ip::address_v6::bytes_type bytes{};
    std::copy_n(v6.sin6_addr.s6_addr, bytes.size(), bytes.begin());
    const ip::address_v6 whole{bytes};
    if (whole.is_v4_mapped()) {
      return ip::make_address_v4(ip::v4_mapped, whole);
    }
    return whole;
  }
  return {};
}

ip_address client_of(const ip_address& address) {
  if (!address.is_v6()) {
    return address;
  }
  auto bytes = address.to_v6().to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), static_cast<unsigned char>(0));
  return ip::address_v6{bytes};
}

address_list::address_list(const std::vector<std::string>& texts) {
  for (const auto& text : texts) {
    auto slash = std::min(text.find('/'), text.size());
    auto first = parse_address(std::string_view{text}.substr(0, slash));
    if (!first) {
      continue;
    }
    unsigned bits = first->is_v4() ? 32 : 128;
    if (slash < text.size()) {
      unsigned given = bits;
      std::from_chars(text.data() + slash + 1, text.data() + text.size(), given);
      bits = std::min(bits, given);
    }
    networks_.push_back({*first, bits});
  }
}

bool address_list::has(const ip_address& address) const {
  return std::any_of(networks_.begin(), networks_.end(), [&](const network& n) {
    if (n.first.is_v4() != address.is_v4()) {
      return false;
    }
    return address.is_v4() ? share_bits(n.first.to_v4().to_bytes().data(),
                                        address.to_v4().to_bytes().data(), n.bits)
                           : share_bits(n.first.to_v6().to_bytes().data(),
                                        address.to_v6().to_bytes().data(), n.bits);
  });
}

ip_address original_client(const address_list& proxies, const ip_address& peer,
                           std::string_view forwarded_for) {
  auto client = peer;
  for (int i = 0; i < proxies_max && !forwarded_for.empty() && proxies.has(client); ++i) {
    auto comma = forwarded_for.rfind(',');
    auto is_first = comma == std::string_view::npos;
    auto before = parse_address(trim(is_first ? forwarded_for : forwarded_for.substr(comma + 1)));
    if (!before) {
      break;
    }
    client = *before;
    forwarded_for = is_first ? std::string_view{} : forwarded_for.substr(0, comma);
  }
  return client;
}

} // namespace coppice::gateway
