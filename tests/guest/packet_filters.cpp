#include "tests/guest/feature.hpp"
#include "tests/guest/netlink.hpp"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/in.h>

#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

namespace features {
namespace {

std::string head_of(std::uint8_t family) {
  const nfgenmsg head{family, NFNETLINK_V0, 0};
  return {reinterpret_cast<const char*>(&head), sizeof(head)};
}

constexpr std::uint16_t type_of(int subsystem, int message) {
  return static_cast<std::uint16_t>(subsystem << 8 | message);
}

std::string answered(int error, const std::string& doing) {
  errno = error;
  return need(error == 0, doing);
}

std::string add_table(netlink& filters, std::uint8_t family) {
  attributes table;
  table.add_text(NFTA_TABLE_NAME, "t");
  return answered(filters.ask_in_batch({type_of(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWTABLE),
                                        NLM_F_CREATE, head_of(family), table}),
                  "a table of nftables");
}

std::string add_chain(netlink& filters, std::uint8_t family, const std::string& type) {
  attributes hook;
  hook.add_big_u32(NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING).add_big_u32(NFTA_HOOK_PRIORITY, 100);
  attributes chain;
  chain.add_text(NFTA_CHAIN_TABLE, "t")
      .add_text(NFTA_CHAIN_NAME, "c")
      .add_nested(NFTA_CHAIN_HOOK, hook)
      .add_text(NFTA_CHAIN_TYPE, type);
  return answered(filters.ask_in_batch({type_of(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWCHAIN),
                                        NLM_F_CREATE, head_of(family), chain}),
                  "a chain of type " + type);
}

std::uint8_t family_of(const std::string& name) {
  return name == "ip"       ? NFPROTO_IPV4
         : name == "ip6"    ? NFPROTO_IPV6
         : name == "bridge" ? NFPROTO_BRIDGE
                            : NFPROTO_INET;
}

/// "FAMILY CHAINTYPE"
std::string chain(const std::string& what) {
  if (::unshare(CLONE_NEWNET) < 0) {
    return failed("unshare");
  }
  const auto space = what.find(' ');
  const auto family = family_of(what.substr(0, space));
  netlink filters{NETLINK_NETFILTER};
  if (!filters.is_open()) {
    return failed("socket");
  }
  auto why = add_table(filters, family);
  return why.empty() ? add_chain(filters, family, what.substr(space + 1)) : why;
}

/// A rule of one expression that has no arguments: ENOENT from a kernel that does not know it.
std::string expression(const std::string& name) {
  if (::unshare(CLONE_NEWNET) < 0) {
    return failed("unshare");
  }
  netlink filters{NETLINK_NETFILTER};
  for (const auto& why :
       {add_table(filters, NFPROTO_IPV4), add_chain(filters, NFPROTO_IPV4, "nat")}) {
    if (!why.empty()) {
      return why;
    }
  }
  attributes one;
  one.add_text(NFTA_EXPR_NAME, name).add_nested(NFTA_EXPR_DATA, {});
  attributes rule;
  rule.add_text(NFTA_RULE_TABLE, "t")
      .add_text(NFTA_RULE_CHAIN, "c")
      .add_nested(NFTA_RULE_EXPRESSIONS, attributes{}.add_nested(NFTA_LIST_ELEM, one));
  const int error =
      filters.ask_in_batch({type_of(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWRULE),
                            NLM_F_CREATE | NLM_F_APPEND, head_of(NFPROTO_IPV4), rule});
  return error == ENOENT ? answered(error, "a rule") : std::string{};
}

/// "4 TABLE" or "6 TABLE"
std::string old_table(const std::string& what) {
  const bool is_six = what[0] == '6';
  const int fd = ::socket(is_six ? AF_INET6 : AF_INET, SOCK_RAW, IPPROTO_RAW);
  ipt_getinfo info{};
  what.copy(info.name, sizeof(info.name) - 1, 2);
  socklen_t size = sizeof(info);
  return need(::getsockopt(fd, is_six ? SOL_IPV6 : SOL_IP, IPT_SO_GET_INFO, &info, &size) == 0,
              "IPT_SO_GET_INFO");
}

/// "m NAME" for a match, "t NAME" for a target: ENOENT from a kernel that does not know it.
std::string old_extension(const std::string& what) {
  const int fd = ::socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
  xt_get_revision which{};
  what.copy(which.name, sizeof(which.name) - 1, 2);
  socklen_t size = sizeof(which);
  const int option = what[0] == 'm' ? IPT_SO_GET_REVISION_MATCH : IPT_SO_GET_REVISION_TARGET;
  return ::getsockopt(fd, SOL_IP, option, &which, &size) == 0 || errno == EPROTONOSUPPORT
             ? std::string{}
             : failed("IPT_SO_GET_REVISION");
}

std::string connection_tracking(const std::string&) {
  netlink filters{NETLINK_NETFILTER};
  return answered(
      filters.ask(
          {type_of(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET), NLM_F_DUMP, head_of(AF_INET), {}}),
      "listing connections");
}

std::string sets(const std::string& type) {
  netlink filters{NETLINK_NETFILTER};
  attributes which;
  which.add(IPSET_ATTR_PROTOCOL, {"\6", 1})
      .add_text(IPSET_ATTR_TYPENAME, type)
      .add(IPSET_ATTR_FAMILY, {type == "list:set" ? "\0" : "\2", 1});
  return answered(
      filters.ask({type_of(NFNL_SUBSYS_IPSET, IPSET_CMD_TYPE), 0, head_of(AF_INET), which}),
      "a set");
}

} // namespace

void add_packet_filters(std::vector<feature>& to) {
  for (const char* what : {"inet filter", "ip filter", "ip6 filter", "bridge filter", "ip nat",
                           "ip6 nat", "inet nat"}) {
    to.push_back({std::string{"nft "} + what, chain, what});
  }
  for (const char* name :
       {"masq", "redir", "nat", "ct", "reject", "log", "limit", "counter", "numgen", "hash", "fib",
        "quota", "socket", "connlimit", "lookup", "dynset", "meta", "payload"}) {
    to.push_back({std::string{"nft_expression "} + name, expression, name});
  }
  for (const char* what :
       {"4 filter", "4 nat", "4 mangle", "4 raw", "6 filter", "6 nat", "6 mangle", "6 raw"}) {
    to.push_back({std::string{"iptables "} + what, old_table, what});
  }
  for (const char* what :
       {"m addrtype", "m comment",  "m conntrack", "m mark",    "m multiport",  "m state",
        "m limit",    "m owner",    "m tcp",       "m physdev", "m recent",     "m statistic",
        "m string",   "m set",      "m hashlimit", "m iprange", "t MASQUERADE", "t REDIRECT",
        "t DNAT",     "t SNAT",     "t LOG",       "t REJECT",  "t MARK",       "t CT",
        "t TCPMSS",   "t CHECKSUM", "t NFLOG"}) {
    to.push_back({std::string{"iptables_extension "} + what, old_extension, what});
  }
  to.push_back({"conntrack", connection_tracking, ""});
  for (const char* type : {"hash:ip", "hash:net", "hash:ip,port", "list:set"}) {
    to.push_back({std::string{"ipset "} + type, sets, type});
  }
}

} // namespace features
