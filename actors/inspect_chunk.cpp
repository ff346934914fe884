#include "actors/inspect_chunk.hpp"

#include <kj/exception.h>

#include <cstdint>

namespace coppice {

namespace {

/// How many elements an answer may still have: each takes a word at least.
class element_room {
public:
  explicit element_room(std::size_t words) : left_{words} {}
  template <class List>
  capnp::uint take(const List& list) {
    KJ_REQUIRE(list.size() <= left_, "a list longer than its message");
    left_ -= list.size();
    return list.size();
  }

private:
  std::size_t left_;
};

void copy(proto::FileEntry::Builder to, proto::FileEntry::Reader from, element_room&) {
  to.setName(from.getName());
  to.setSizeBytes(from.getSizeBytes());
  to.setUid(from.getUid());
  to.setGid(from.getGid());
  to.setMode(from.getMode());
  to.setMtimeUnixS(from.getMtimeUnixS());
  to.setLinkCount(from.getLinkCount());
  to.setSymlinkTarget(from.getSymlinkTarget());
  to.setOwner(from.getOwner());
  to.setGroup(from.getGroup());
}

void copy(proto::GrepMatch::Builder to, proto::GrepMatch::Reader from, element_room& room) {
  to.setPath(from.getPath());
  to.setLineNumber(from.getLineNumber());
  to.setAbsoluteOffset(from.getAbsoluteOffset());
  to.setLine(from.getLine());
  to.setIsContext(from.getIsContext());
  auto spans = from.getSubmatches();
  auto out = to.initSubmatches(room.take(spans));
  for (capnp::uint i = 0; i < out.size(); ++i) {
    out[i].setStart(spans[i].getStart());
    out[i].setEnd(spans[i].getEnd());
  }
}

void copy(proto::PathChange::Builder to, proto::PathChange::Reader from, element_room&) {
  to.setPath(from.getPath());
  to.setKind(from.getKind());
  to.setOldSizeBytes(from.getOldSizeBytes());
  to.setNewSizeBytes(from.getNewSizeBytes());
  to.setOldMode(from.getOldMode());
  to.setNewMode(from.getNewMode());
  to.setContent(from.getContent());
  to.setAttributes(from.getAttributes());
}

template <class To, class From>
void copy_all(To to, From from, element_room& room) {
  for (capnp::uint i = 0; i < to.size(); ++i) {
    copy(to[i], from[i], room);
  }
}

} // namespace

std::optional<frame<proto::InspectChunk>> chunk_of(const frame<proto::InspectAnswer>& answer) try {
  auto said = answer.view();
  const auto words = answer.words().size();
  if (said->totalSize().wordCount > words) {
    return std::nullopt; // the same bytes, many times
  }
  element_room room{words};
  bool is_chunk = true;
  auto chunk = make_frame<proto::InspectChunk>([&](auto root) {
    if (said->isEntries()) {
      auto list = said->getEntries();
      copy_all(root.initEntries(room.take(list)), list, room);
    } else if (said->isData()) {
      root.setData(said->getData());
    } else if (said->isMatches()) {
      auto list = said->getMatches();
      copy_all(root.initMatches(room.take(list)), list, room);
    } else if (said->isChanges()) {
      auto list = said->getChanges();
      copy_all(root.initChanges(room.take(list)), list, room);
    } else {
      is_chunk = said->isEnd() && said->getLast();
      root.setEnd();
    }
    root.setLast(said->getLast());
    root.setTruncated(said->getTruncated());
  });
  return is_chunk ? std::optional{std::move(chunk)} : std::nullopt;
} catch (const kj::Exception&) {
  return std::nullopt;
}

bool has_content(proto::InspectChunk::Reader chunk) {
  using which = proto::InspectChunk::Which;
  switch (chunk.which()) {
  case which::ENTRIES:
    return chunk.getEntries().size() > 0;
  case which::DATA:
    return chunk.getData().size() > 0;
  case which::MATCHES:
    return chunk.getMatches().size() > 0;
  case which::CHANGES:
    return chunk.getChanges().size() > 0;
  case which::PARTS:
    for (auto part : chunk.getParts()) {
      if (part.getData().size() > 0 || part.getBytes() > 0) {
        return true;
      }
    }
    return false;
  case which::END:
    return true;
  }
  return false;
}

} // namespace coppice
