#include "actors/import.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

namespace {

std::string parsed(const char* url) {
  auto r = coppice::parse_registry_reference(url);
  return r ? r->skopeo() : "refused";
}

} // namespace

BOOST_AUTO_TEST_SUITE(registry_reference)

BOOST_AUTO_TEST_CASE(defaults_are_those_of_the_contract) {
  BOOST_TEST(parsed("docker://busybox") == "docker://docker.io/library/busybox:latest");
  BOOST_TEST(parsed("busybox:1.36") == "docker://docker.io/library/busybox:1.36");
  BOOST_TEST(parsed("docker://user/app") == "docker://docker.io/user/app:latest");
  BOOST_TEST(parsed("oci://ghcr.io/a/b") == "docker://ghcr.io/a/b:latest");
  BOOST_TEST(parsed("docker://127.0.0.1:5000/x:y") == "docker://127.0.0.1:5000/x:y");
  BOOST_TEST(parsed("docker://localhost/x") == "docker://localhost/x:latest");
  BOOST_TEST(parsed("docker://r.io/a@sha256:00") == "docker://r.io/a@sha256:00");
}

BOOST_AUTO_TEST_CASE(what_cannot_be_a_reference_is_refused) {
  for (const char* url : {"", "docker://", "docker:///x", "docker://host.io/", "a b", "-x",
                          "docker://x;rm", "docker://x\n", "docker://x$y"}) {
    BOOST_TEST(parsed(url) == "refused", "accepted: " << url);
  }
}

BOOST_AUTO_TEST_CASE(the_reason_is_the_registrys_own) {
  BOOST_TEST(coppice::registry_words(
                 "time=\"x\" level=fatal msg=\"initializing source: reading manifest latest in "
                 "h/x: manifest unknown: \\\"no\\\"\"\n") ==
             "initializing source: reading manifest latest in h/x: manifest unknown: \"no\"");
  BOOST_TEST(coppice::registry_words("plain words\n") == "plain words");
  BOOST_TEST(!coppice::registry_words("").empty());
}

BOOST_AUTO_TEST_SUITE_END()
