#pragma once

#include <boost/asio/ip/address.hpp>

#include <string>
#include <string_view>
#include <vector>

struct sockaddr;

/// Who is at the other end of a connection: for limits, for the log, for what is only shown to this
/// machine. Plain, so that it can be fuzzed.
namespace coppice::gateway {

using ip_address = boost::asio::ip::address;

/// Of an IPv4 or IPv6 socket, the unspecified address of any other. IPv4 clients of an IPv6 socket
/// come out as what they are.
ip_address address_of(const sockaddr& peer);

/// What counts as one client: the address, or the /64 network of an IPv6 address, since whoever has
/// one of these has all of it.
ip_address client_of(const ip_address& address);

/// Addresses and networks of an operator's list; what is none is left out.
class address_list {
public:
  explicit address_list(const std::vector<std::string>& texts);

  bool has(const ip_address& address) const;
  bool is_empty() const {
    return networks_.empty();
  }

private:
  struct network {
    ip_address first;
    unsigned bits;
  };
  std::vector<network> networks_;
};

/// The client that a request comes from: the peer, or, where that is a trusted proxy, the last
/// address in X-Forwarded-For that is none. Addresses before it were written by whoever that is.
ip_address original_client(const address_list& proxies, const ip_address& peer,
                           std::string_view forwarded_for);

} // namespace coppice::gateway
