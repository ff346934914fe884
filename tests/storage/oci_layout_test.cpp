#define BOOST_TEST_MODULE oci_layout
#include <boost/test/unit_test.hpp>

#include "storage/error.hpp"
#include "storage/importer.hpp"
#include "storage/oci_layout.hpp"
#include "tests/storage/scratch.hpp"
#include "tests/support/oci_layout.hpp"

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
using coppice::test::layout_folder;
using coppice::test::oci_config;
using coppice::test::oci_index;
using coppice::test::oci_layer;
using coppice::test::oci_manifest;
using coppice::test::sha256_hex;

namespace {

constexpr const char* docker_list = "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr const char* docker_manifest = "application/vnd.docker.distribution.manifest.v2+json";
constexpr const char* docker_config = "application/vnd.docker.container.image.v1+json";

struct layout_fixture {
  scratch dir;
  layout_folder layout{dir / "layout"};

  /// A manifest that differs by `mark`, with no layer.
  std::string manifest(const std::string& mark, const std::string& more,
                       const std::string& architecture = "amd64") {
    const auto config = layout.add(
        oci_config, layout_folder::config_text(architecture, R"({"WorkingDir":"/)" + mark + "\"}"));
    return layout.add(oci_manifest, layout_folder::manifest_text(config, {}), more);
  }

  oci::chosen_image choose() {
    auto out = oci::choose_image(layout.path());
    BOOST_REQUIRE_MESSAGE(out, (out ? "" : out.error().text));
    return std::move(*out);
  }

  void check_choice_fails(ec code, std::string_view part) {
    check_fails(oci::choose_image(layout.path()), code, part);
  }
};

} // namespace

BOOST_FIXTURE_TEST_CASE(the_linux_amd64_manifest_is_chosen_among_others, layout_fixture) {
  layout.set_index({manifest("arm", layout_folder::platform("arm64"), "arm64"),
                    manifest("windows", layout_folder::platform("amd64", "windows")),
                    manifest("right", layout_folder::platform("amd64")),
                    manifest("second", layout_folder::platform("amd64"))});
  BOOST_CHECK_EQUAL(choose().config.working_dir, "/right");
  auto digest = source_digest_of(layout.path());
  BOOST_REQUIRE(digest);
  BOOST_CHECK_EQUAL(*digest, choose().digest);
  BOOST_CHECK(std::filesystem::exists(layout.blob_path(digest->substr(7))));
}

BOOST_FIXTURE_TEST_CASE(an_image_for_any_amd64_goes_before_one_for_newer_processors,
                        layout_fixture) {
  const auto v3 =
      manifest("v3", R"(,"platform":{"os":"linux","architecture":"amd64","variant":"v3"})");
  layout.set_index({v3, manifest("plain", layout_folder::platform("amd64"))});
  BOOST_CHECK_EQUAL(choose().config.working_dir, "/plain");
  layout.set_index({v3});
  BOOST_CHECK_EQUAL(choose().config.working_dir, "/v3");
}

BOOST_FIXTURE_TEST_CASE(without_a_platform_the_config_decides, layout_fixture) {
  layout.set_index({manifest("arm", "", "arm64"), manifest("right", "")});
  BOOST_CHECK_EQUAL(choose().config.working_dir, "/right");
}

BOOST_FIXTURE_TEST_CASE(indexes_may_be_nested_but_not_without_end, layout_fixture) {
  auto inner = manifest("deep", layout_folder::platform("amd64"));
  for (int depth = 0; depth < 4; ++depth) {
    inner = layout.add(oci_index, layout_folder::index_text({inner}));
  }
  layout.set_index({inner});
  BOOST_CHECK_EQUAL(choose().config.working_dir, "/deep");
  layout.set_index({layout.add(oci_index, layout_folder::index_text({inner}))});
  check_choice_fails(ec::too_large, "deeper than 4");
  // Few documents that name each other many times are not read for ever.
  auto wide = layout.add(oci_index, layout_folder::index_text({}));
  for (int depth = 0; depth < 3; ++depth) {
    wide = layout.add(oci_index, layout_folder::index_text(std::vector<std::string>(100, wide)));
  }
  layout.set_index({wide});
  check_choice_fails(ec::too_large, "256 documents");
}

BOOST_FIXTURE_TEST_CASE(docker_media_types_are_known, layout_fixture) {
  const auto layer =
      layout.add("application/vnd.docker.image.rootfs.diff.tar.gzip", "not looked at");
  const auto config = layout.add(docker_config, layout_folder::config_text());
  const auto image = layout.add(docker_manifest, layout_folder::manifest_text(config, {layer}),
                                layout_folder::platform("amd64"));
  layout.set_index({layout.add(docker_list, layout_folder::index_text({image}))});
  BOOST_CHECK_EQUAL(choose().manifest.layers.size(), 1);
}

BOOST_FIXTURE_TEST_CASE(where_there_is_no_image_for_us_the_failure_says_what_there_is,
                        layout_fixture) {
  layout.set_index({manifest("a", layout_folder::platform("arm64"), "arm64"),
                    manifest("b", layout_folder::platform("s390x"), "s390x")});
  check_choice_fails(ec::unsupported, "no linux/amd64");
  check_choice_fails(ec::unsupported, "linux/s390x");
  layout.set_index({});
  check_choice_fails(ec::unsupported, "found: nothing");
}

BOOST_FIXTURE_TEST_CASE(an_artifact_beside_the_image_does_not_hide_it, layout_fixture) {
  const auto empty = layout.add("application/vnd.example.signature", "{}");
  const auto artifact = layout.add(oci_manifest, layout_folder::manifest_text(empty, {}));
  layout.set_index({artifact, manifest("image", "")});
  BOOST_CHECK_EQUAL(choose().config.working_dir, "/image");
  layout.set_index({artifact});
  check_choice_fails(ec::unsupported, "not a container image");
}

BOOST_FIXTURE_TEST_CASE(unknown_layer_types_are_refused_by_name, layout_fixture) {
  const auto config = layout.add(oci_config, layout_folder::config_text());
  const auto layer = layout.add("application/vnd.oci.image.layer.v1.tar+lz4", "x");
  layout.set_index({layout.add(oci_manifest, layout_folder::manifest_text(config, {layer}))});
  check_choice_fails(ec::unsupported, "tar+lz4");
}

BOOST_FIXTURE_TEST_CASE(documents_must_match_their_digests, layout_fixture) {
  const auto right = manifest("right", layout_folder::platform("amd64"));
  layout.set_index({right});
  const auto hex = choose().digest.substr(7);
  std::string text;
  for (auto byte : read_file(layout.blob_path(hex))) {
    text += static_cast<char>(byte);
  }
  auto forged = text;
  forged.replace(forged.find("schema"), 6, "SCHEMA");
  layout.write(layout.blob_path(hex), forged);
  check_choice_fails(ec::damaged, "has the digest sha256:" + sha256_hex(forged));
  std::filesystem::remove(layout.blob_path(hex));
  check_choice_fails(ec::not_found, "lacks blob sha256:" + hex);
}

BOOST_FIXTURE_TEST_CASE(the_config_says_how_processes_run, layout_fixture) {
  layout.set_index({layout.add_image(
      {}, layout_folder::config_text("amd64",
                                     R"({"Env":["PATH=/bin","EMPTY=","A=b=c","lonely","=x"],)"
                                     R"("WorkingDir":"/srv","User":"app:staff","Cmd":["sh"]})"))});
  auto done = import_oci_layout(layout.path(), dir / "out", {});
  BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
  auto config = done->config.view();
  BOOST_CHECK_EQUAL(config->getWorkingDir().cStr(), "/srv");
  BOOST_CHECK_EQUAL(config->getUser().cStr(), "app:staff");
  auto env = config->getEnv();
  BOOST_REQUIRE_EQUAL(env.size(), 4u);
  BOOST_CHECK_EQUAL(env[0].getName().cStr(), "PATH");
  BOOST_CHECK_EQUAL(env[0].getValue().cStr(), "/bin");
  BOOST_CHECK_EQUAL(env[1].getValue().cStr(), "");
  BOOST_CHECK_EQUAL(env[2].getValue().cStr(), "b=c");
  BOOST_CHECK_EQUAL(env[3].getName().cStr(), "lonely");
}

BOOST_AUTO_TEST_CASE(a_config_without_a_process_is_fine) {
  for (auto text : {R"({"os":"linux","architecture":"amd64"})",
                    R"({"os":"linux","architecture":"amd64","config":null})",
                    R"({"os":"linux","architecture":"amd64","config":{"Env":null,"User":null}})"}) {
    auto config = oci::parse_image_config(text);
    BOOST_REQUIRE_MESSAGE(config, text);
    BOOST_CHECK(config->env.empty());
    BOOST_CHECK_EQUAL(config->architecture, "amd64");
  }
}

BOOST_AUTO_TEST_CASE(malformed_documents_are_refused) {
  const std::string digest = "sha256:" + std::string(64, 'a');
  auto index_of = [](const std::string& entry) {
    return R"({"schemaVersion":2,"manifests":[)" + entry + "]}";
  };
  for (const auto& text : std::vector<std::string>{
           "", "{", "[]", "{\"schemaVersion\":2}", "\xff", R"({"schemaVersion":2,"manifests":{}})",
           index_of("3"), index_of(R"({"mediaType":3,"digest":")" + digest + R"(","size":1})"),
           index_of(R"({"mediaType":"x","digest":"sha256:../../etc/passwd","size":1})"),
           index_of(R"({"mediaType":"x","digest":"sha256:)" + std::string(64, 'A') +
                    R"(","size":1})"),
           index_of(R"({"mediaType":"x","digest":")" + digest + R"(","size":-1})"),
           index_of(R"({"mediaType":"x","digest":")" + digest + R"("})")}) {
    auto parsed = oci::parse_index(text);
    BOOST_CHECK_MESSAGE(!parsed && parsed.error().code == ec::damaged, text);
  }
  check_fails(oci::parse_index(index_of(R"({"mediaType":"x","digest":"sha512:ab","size":1})")),
              ec::unsupported, "sha512");
  check_fails(oci::parse_index(R"({"schemaVersion":1,"manifests":[]})"), ec::unsupported,
              "schemaVersion");
  check_fails(oci::parse_manifest(R"({"schemaVersion":2,"layers":[]})"), ec::damaged, "config");
  check_fails(oci::parse_image_config(R"({"os":"linux","config":{"Env":[3]}})"), ec::damaged,
              "Env");
  check_fails(oci::parse_image_config("{\"os\":\"a\\u0000b\"}"), ec::damaged, "zero byte");
}

BOOST_AUTO_TEST_CASE(documents_have_limits) {
  check_fails(oci::parse_index(std::string(oci::document_bytes_max + 1, ' ')), ec::too_large,
              "4 MiB");
  std::string nested = std::string(1000, '[') + std::string(1000, ']');
  check_fails(oci::parse_index(R"({"x":)" + nested + "}"), ec::damaged, "JSON");
  std::string env = R"({"os":"linux","config":{"Env":["A=b")";
  for (int i = 0; i < 5000; ++i) {
    env += R"(,"A=b")";
  }
  check_fails(oci::parse_image_config(env + "]}}"), ec::too_large, "256 KiB");
  const auto entry =
      R"({"mediaType":"x","digest":"sha256:)" + std::string(64, 'a') + R"(","size":1})";
  std::string many = entry;
  for (std::size_t i = 0; i < oci::index_entries_max; ++i) {
    many += "," + entry;
  }
  check_fails(oci::parse_index(R"({"schemaVersion":2,"manifests":[)" + many + "]}"), ec::too_large,
              "4096");
}

BOOST_AUTO_TEST_CASE(a_folder_that_is_no_layout_is_refused) {
  scratch dir;
  check_fails(oci::choose_image(dir.path()), ec::not_found, "oci-layout");
  layout_folder layout{dir / "layout"};
  check_fails(oci::choose_image(layout.path()), ec::not_found, "index.json");
  layout.write("oci-layout", R"({"imageLayoutVersion":"2.0"})");
  check_fails(oci::choose_image(layout.path()), ec::unsupported, "2.0");
}
