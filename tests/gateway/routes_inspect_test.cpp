#include "tests/gateway/description.hpp"
#include "tests/gateway/routes_fixture.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

BOOST_FIXTURE_TEST_SUITE(routes, server_fixture)

BOOST_AUTO_TEST_CASE(a_tag_leads_to_its_image) {
  auto id = inside.add_image("default", {"a/b:1"}).text();
  auto client = this->client();
  auto answer = client.get("/v1/inspect?tag=a/b:1");
  BOOST_TEST(answer.status == 301u);
  BOOST_TEST(answer.header("Location") == "inspect/?tag=a/b:1");
  answer = client.get("/v1/inspect/?tag=a/b:1");
  BOOST_TEST(answer.status == 302u);
  BOOST_TEST(answer.header("Location") == id + "/");
  answer = client.get("/v1/inspect/" + id);
  BOOST_TEST(answer.status == 301u);
  BOOST_TEST(answer.header("Location") == id + "/");
  answer = client.get("/v1/inspect/" + id + "/");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(text(answer.json().at("uuid")) == id);
  BOOST_TEST(client.get("/v1/inspect/").status == 400u);
  BOOST_TEST(client.get("/v1/inspect/?tag=nothing").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/?tag=a%20b").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/" + uuid::random().text() + "/").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/nonsense/").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/nonsense").status == 404u);
}

BOOST_AUTO_TEST_CASE(a_directory_is_listed_with_every_member) {
  inside.paths["/etc dir"] = {{}, {"a", "b\xFF"}, true, {}, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto body = client.get("/v1/inspect/" + id + "/list?path=/etc%20dir").json();
  BOOST_TEST(text(body.at("path")) == "/etc dir");
  auto files = body.at("files").as_array();
  BOOST_REQUIRE(files.size() == 2u);
  BOOST_TEST(files[0].as_object().size() == 15u);
  BOOST_TEST(text(files[0].at("owner")) == "root");
  BOOST_TEST(files[0].at("group").as_int64() == 0); // no name is known for it
  BOOST_TEST(files[0].at("mode").as_int64() == 33188);
  BOOST_TEST(files[0].at("is_regular").as_bool());
  BOOST_TEST(!files[0].at("is_dir").as_bool());
  BOOST_TEST(text(files[1].at("path")) == "b\xEF\xBF\xBD");
  auto listing = client.get("/v1/inspect/" + id + "/list?path=/etc%20dir&text");
  BOOST_TEST(listing.header("Content-Type").starts_with("text/plain"));
  BOOST_TEST(listing.body.starts_with("total 4.0K\n-rw-r--r--"));
}

BOOST_AUTO_TEST_CASE(a_huge_directory_is_listed_piece_by_piece) {
  std::vector<std::string> names;
  for (int i = 0; i < 20'000; ++i) {
    names.push_back("file-" + std::to_string(i));
  }
  inside.paths["/"] = {{}, names, true, {}, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto answer = client.get("/v1/inspect/" + id + "/list");
  BOOST_TEST(answer.header("Transfer-Encoding") == "chunked");
  BOOST_TEST(answer.json().at("files").as_array().size() == names.size());
  auto listing = client.get("/v1/inspect/" + id + "/list?text=1");
  BOOST_TEST(listing.body.starts_with("total 39M\n"));
  BOOST_TEST(std::count(listing.body.begin(), listing.body.end(), '\n') ==
             static_cast<std::ptrdiff_t>(names.size() + 1));
}

BOOST_AUTO_TEST_CASE(a_file_is_downloaded_with_its_length) {
  std::string bytes;
  for (int i = 0; i < 1'000'000; ++i) {
    bytes += static_cast<char>(i * 31);
  }
  inside.paths["/bin/x"] = {bytes, {}, false, {}, {}};
  inside.paths["/empty"] = {};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto answer = client.get("/v1/inspect/" + id + "/download?path=/bin/x");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(answer.header("Content-Length") == "1000000");
  BOOST_TEST(answer.header("Content-Type") == "application/octet-stream");
  BOOST_TEST((answer.body == bytes));
  BOOST_TEST(client.get("/v1/inspect/" + id + "/download?path=bin/x").status == 200u);
  BOOST_TEST(client.get("/v1/inspect/" + id + "/download?path=/empty").body.empty());
}

/// A path whose bytes are in a file of the store.
struct stored_path {
  stored_path(server_fixture& in, const std::string& path, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
      bytes += static_cast<char>(i * 31 + i / 251);
    }
    in.inside.config.state_dir = in.folder;
    std::filesystem::create_directories(in.folder / "images");
    file = uuid::random();
    std::ofstream{place(in), std::ios::binary} << bytes;
    in.inside.paths[path].data = bytes;
    in.inside.paths[path].stored = file;
  }
  std::filesystem::path place(const server_fixture& in) const {
    return in.folder / "images" / (file.text() + ".qcow2");
  }
  std::string bytes;
  uuid file;
};

BOOST_AUTO_TEST_CASE(content_in_stored_files_is_sent_from_there) {
  stored_path stored{*this, "/big", 9'000'000}; // more than a socket holds
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  for (int round = 0; round < 2; ++round) {
    auto answer = client.get("/v1/inspect/" + id + "/download?path=/big");
    BOOST_TEST(answer.status == 200u);
    BOOST_TEST(answer.header("Content-Length") == "9000000");
    BOOST_TEST((answer.body == stored.bytes));
  }
  auto archive = client.get("/v1/inspect/" + id + "/archive?path=/big");
  BOOST_TEST(archive.header("Content-Type") == "application/x-tar");
  BOOST_TEST(archive.header("Transfer-Encoding") == "chunked");
  BOOST_TEST((archive.body == stored.bytes));
  auto head = client.head("/v1/inspect/" + id + "/archive?path=/big");
  BOOST_TEST(head.status == 200u);
  BOOST_TEST(head.header("Content-Type") == "application/x-tar");
}

BOOST_AUTO_TEST_CASE(a_stored_file_that_is_too_short_breaks_the_connection) {
  stored_path stored{*this, "/big", 300'000};
  std::filesystem::resize_file(stored.place(*this), 150'000);
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  BOOST_CHECK_THROW(client.get("/v1/inspect/" + id + "/download?path=/big"), std::exception);
  std::filesystem::remove(stored.place(*this));
  auto other = this->client();
  BOOST_CHECK_THROW(other.get("/v1/inspect/" + id + "/download?path=/big"), std::exception);
}

BOOST_AUTO_TEST_CASE(a_part_of_a_file_is_sent_as_such) {
  stored_path stored{*this, "/x", 250'000};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto target = "/v1/inspect/" + id + "/download?path=/x";
  auto range = [&](const std::string& header) {
    return client.request("GET", target, {}, {{"Range", header}});
  };
  struct asked {
    std::string header;
    std::size_t first;
    std::size_t bytes;
    std::string told;
  };
  for (const auto& [header, first, bytes, told] : std::vector<asked>{
           {"bytes=0-0", 0, 1, "bytes 0-0/250000"},
           {"bytes=5-120004", 5, 120'000, "bytes 5-120004/250000"},
           {"bytes=249999-", 249'999, 1, "bytes 249999-249999/250000"},
           {"Bytes= 10-999999999999999999999", 10, 249'990, "bytes 10-249999/250000"},
           {"bytes=-7", 249'993, 7, "bytes 249993-249999/250000"}}) {
    auto answer = range(header);
    BOOST_TEST(answer.status == 206u, header);
    BOOST_TEST(answer.header("Content-Range") == told);
    BOOST_TEST(answer.header("Content-Length") == std::to_string(bytes));
    BOOST_TEST((answer.body == stored.bytes.substr(first, bytes)), header);
  }
  for (const auto* header : {"bytes=250000-", "bytes=-0"}) {
    auto answer = range(header);
    BOOST_TEST(answer.status == 416u, header);
    BOOST_TEST(answer.header("Content-Range") == "bytes */250000");
  }
  for (const auto* header : {"bytes=", "bytes=-", "bytes=5", "bytes=9-3", "bytes=0-1,3-4",
                             "lines=1-2", "bytes=x-9", "bytes=1-9x"}) {
    BOOST_TEST(range(header).status == 200u, header);
  }
  auto conditional = client.request("GET", target, {}, {{"Range", "bytes=0-1"}, {"If-Range", "x"}});
  BOOST_TEST(conditional.status == 200u);
  auto head = client.request("HEAD", target, {}, {{"Range", "bytes=0-1"}});
  BOOST_TEST(head.status == 200u);
  BOOST_TEST(head.header("Content-Length") == "250000");
  BOOST_TEST(head.header("Accept-Ranges") == "bytes");
}

BOOST_AUTO_TEST_CASE(looking_whether_a_file_is_there_reads_none_of_it) {
  inside.paths["/x"] = {"12345", {}, false, {}, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto head = client.head("/v1/inspect/" + id + "/download?path=/x");
  BOOST_TEST(head.status == 200u);
  BOOST_TEST(head.header("Content-Length") == "5");
  BOOST_TEST(client.head("/v1/inspect/" + id + "/download?path=/y").status == 404u);
  std::unique_lock lock{inside.mutex};
  auto is_closed = inside.asked.wait_for(lock, std::chrono::seconds{20},
                                         [&] { return inside.inspect_closes == 1; });
  BOOST_TEST(is_closed);
}

BOOST_AUTO_TEST_CASE(wrong_paths_are_told_apart) {
  inside.paths["/dir"] = {{}, {}, true, {}, {}};
  inside.paths["/file"] = {"x", {}, false, {}, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto status = [&](const std::string& rest) {
    return client.get("/v1/inspect/" + id + rest).status;
  };
  BOOST_TEST(status("/list?path=/file") == 422u);
  BOOST_TEST(status("/download?path=/dir") == 422u);
  BOOST_TEST(status("/list?path=/nothing") == 404u);
  BOOST_TEST(status("/download?path=/nothing") == 404u);
  BOOST_TEST(status("/download") == 400u);
  BOOST_TEST(status("/download?path=/a%00b") == 400u);
  BOOST_TEST(status("/list?text=perhaps") == 400u);
  BOOST_TEST(status("/archive?path=/nothing") == 404u);
  BOOST_TEST(status("/archive") == 400u);
  BOOST_TEST(client.get("/v1/inspect/nonsense/list").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/" + uuid::random().text() + "/list").status == 404u);
}

BOOST_AUTO_TEST_CASE(a_download_of_another_length_than_announced_breaks_the_connection) {
  auto id = inside.add_image("default", {}).text();
  inside.paths["/short"] = {"12345", {}, false, 9, {}};
  auto shorter = client();
  BOOST_CHECK_THROW(shorter.get("/v1/inspect/" + id + "/download?path=/short"), std::exception);
  inside.paths["/long"] = {"12345", {}, false, 3, {}};
  auto longer = client();
  BOOST_CHECK_THROW(longer.get("/v1/inspect/" + id + "/download?path=/long"), std::exception);
}

BOOST_AUTO_TEST_CASE(a_reader_that_goes_away_closes_its_session) {
  inside.paths["/big"] = {std::string(50u << 20, 'x'), {}, false, {}, {}};
  auto id = inside.add_image("default", {}).text();
  {
    auto client = this->client();
    client.send("GET /v1/inspect/" + id +
                "/download?path=/big HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n");
  }
  std::unique_lock lock{inside.mutex};
  auto is_closed = inside.asked.wait_for(lock, std::chrono::seconds{20},
                                         [&] { return inside.inspect_closes == 1; });
  BOOST_TEST(is_closed);
}

BOOST_AUTO_TEST_CASE(a_search_is_asked_for_with_all_its_terms) {
  auto id = inside.add_image("default", {}).text();
  inside.prepared_chunk = [](std::uint64_t) {
    return make_frame<proto::InspectChunk>([](auto root) {
      auto matches = root.initMatches(2);
      auto set = [](auto builder, const std::string& path, const std::string& line) {
        builder.setPath({reinterpret_cast<const capnp::byte*>(path.data()), path.size()});
        builder.setLine({reinterpret_cast<const capnp::byte*>(line.data()), line.size()});
      };
      set(matches[0], "/a", "text\n");
      matches[0].setLineNumber(7);
      matches[0].setAbsoluteOffset(70);
      auto span = matches[0].initSubmatches(1)[0];
      span.setStart(1);
      span.setEnd(3);
      set(matches[1], "/b", "\xFF\n");
      matches[1].setIsContext(true);
      root.setLast(true);
      root.setTruncated(true);
    });
  };
  auto client = this->client();
  auto answer = client.get("/v1/inspect/" + id +
                           "/grep?pattern=te&pattern=x&path=/usr&path=lib&glob=*.c&glob=!d&"
                           "max_count=3&max_total=9&case=smart&before=1&after=2");
  BOOST_TEST(answer.status == 200u);
  auto body = answer.json().as_object();
  BOOST_TEST(text(body.at("path")) == "/usr");
  BOOST_TEST(body.at("patterns").as_array().size() == 2u);
  BOOST_TEST(body.at("truncated").as_bool());
  auto first = body.at("matches").as_array()[0].as_object();
  BOOST_TEST(text(first.at("line_text")) == "text\n");
  BOOST_TEST(first.at("line_bytes").is_null());
  BOOST_TEST(first.at("line_number").as_int64() == 7);
  BOOST_TEST(first.at("absolute_offset").as_int64() == 70);
  BOOST_TEST(text(first.at("submatches").as_array()[0].at("text")) == "ex");
  BOOST_TEST(text(first.at("type")) == "match");
  auto second = body.at("matches").as_array()[1].as_object();
  BOOST_TEST(text(second.at("line_text")) == "\xEF\xBF\xBD\n");
  BOOST_TEST(text(second.at("line_bytes")) == "/wo=");
  BOOST_TEST(text(second.at("type")) == "context");
  std::scoped_lock lock{inside.mutex};
  auto order = inside.inspect_orders.begin()->second.view();
  auto asked = order->getGrep();
  BOOST_TEST(asked.getPatterns().size() == 2u);
  BOOST_TEST(asked.getPaths()[1].cStr() == std::string{"/lib"});
  BOOST_TEST(asked.getGlobs()[1].cStr() == std::string{"!d"});
  BOOST_TEST(asked.getMaxCount() == 3u);
  BOOST_TEST(asked.getMaxTotal() == 9u);
  BOOST_TEST((asked.getCaseMode() == proto::GrepQuery::CaseMode::SMART));
  BOOST_TEST(asked.getBefore() == 1u);
  BOOST_TEST(asked.getAfter() == 2u);
}

BOOST_AUTO_TEST_CASE(a_wrong_search_is_refused_before_an_image_is_looked_for) {
  auto client = this->client();
  auto none = "/v1/inspect/" + uuid::random().text() + "/grep";
  for (const auto* query :
       {"", "?path=/", "?pattern=(", "?pattern=a)(b", "?pattern=x&glob=[",
        "?pattern=x&glob=", "?pattern=x&case=loud", "?pattern=x&before=101", "?pattern=x&after=-1",
        "?pattern=x&max_count=many", "?pattern=x&max_total=1.5", "?pattern=x&path=%00"}) {
    BOOST_TEST(client.get(none + query).status == 400u, query);
  }
  BOOST_TEST(client.get(none + "?pattern=x").status == 404u);
}

BOOST_AUTO_TEST_CASE(two_images_are_compared_page_by_page) {
  auto older = inside.add_image("default", {}).text();
  auto newer = inside.add_image("default", {}).text();
  inside.prepared_chunk = [](std::uint64_t) {
    return make_frame<proto::InspectChunk>([](auto root) {
      auto changes = root.initChanges(3);
      for (unsigned i = 0; i < 3; ++i) {
        const auto name = "p" + std::to_string(i);
        changes[i].setPath({reinterpret_cast<const capnp::byte*>(name.data()), name.size()});
        changes[i].setKind(static_cast<proto::PathChange::Kind>(i));
        changes[i].setOldSizeBytes(i);
        changes[i].setNewSizeBytes(10 * i);
        changes[i].setContent(i == 2);
      }
      root.setLast(true);
    });
  };
  auto client = this->client();
  auto target = "/v1/images/" + older + "/diff/" + newer;
  auto all = client.get(target).json().as_object();
  BOOST_TEST(text(all.at("from")) == older);
  BOOST_TEST(text(all.at("to")) == newer);
  BOOST_TEST(!all.at("truncated").as_bool());
  auto changes = all.at("changes").as_array();
  BOOST_REQUIRE(changes.size() == 3u);
  BOOST_TEST(text(changes[0].at("path")) == "/p0");
  BOOST_TEST(text(changes[0].at("change")) == "added");
  BOOST_TEST(changes[0].at("old_size").is_null());
  BOOST_TEST(text(changes[1].at("change")) == "removed");
  BOOST_TEST(changes[1].at("new_mode").is_null());
  BOOST_TEST(changes[2].at("new_size").as_int64() == 20);
  BOOST_TEST(changes[2].at("content").as_bool());
  BOOST_TEST(keys(all) == described_members("ImageDiff"), boost::test_tools::per_element());
  for (const auto& change : changes) {
    BOOST_TEST(keys(change) == described_members("PathChange"), boost::test_tools::per_element());
  }
  auto page = client.get(target + "?offset=1&limit=1").json().as_object();
  BOOST_TEST(page.at("truncated").as_bool());
  BOOST_TEST(page.at("changes").as_array().size() == 1u);
  BOOST_TEST(text(page.at("changes").as_array()[0].at("path")) == "/p1");
  inside.prepared_chunk = [](std::uint64_t) {
    return make_frame<proto::InspectChunk>([](auto root) {
      root.initChanges(0);
      root.setLast(true);
      root.setTruncated(true); // there was no time for more
    });
  };
  BOOST_TEST(client.get(target).json().at("truncated").as_bool());
  BOOST_TEST(client.get(target + "?limit=0").status == 400u);
  BOOST_TEST(client.get(target + "?text=1").status == 400u); // of which path?
  auto none = uuid::random().text();
  BOOST_TEST(client.get("/v1/images/" + none + "/diff/" + newer).status == 404u);
  BOOST_TEST(client.get("/v1/images/" + older + "/diff/" + none).status == 404u);
  auto itself = client.get("/v1/images/" + older + "/diff/" + older).json();
  BOOST_TEST(itself.at("changes").as_array().empty());
  BOOST_TEST(client.get("/v1/images/" + older + "/diff/" + older + "?text=1").status == 400u);
}

BOOST_AUTO_TEST_SUITE_END()
