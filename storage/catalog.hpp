#pragma once

#include "protocol/frame.hpp"
#include "protocol/messages.capnp.h"
#include "protocol/records.capnp.h"
#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/image_deletion.hpp"

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::storage {

/// The durable records of a node: images, tags, operations and their events, files, tokens.
///
/// Problem: an acknowledged record must survive any crash, and a page of any listing must not cost
/// more when there are a million rows. LMDB gives the first; keys give the second: the project is
/// the first part of every key that is listed or looked up by name, then (for listings) the time.
///
/// Guarantee: a committed transaction is durable and all or nothing; reads see the latest commit
/// and never wait for the writer. Reads may be called from any thread; write transactions begin
/// and end on one thread, one at a time in this process.
class catalog {
public:
  class transaction;
  using sha256 = std::array<unsigned char, 32>;

  /// Costs address space only, so it is far beyond what will ever be used.
  static constexpr std::size_t map_bytes_default = 1ull << 40;

  /// At most so many rows in a page, whatever was asked for.
  static constexpr std::uint32_t page_rows_max = 1000;

  /// Opens or creates `dir`. Another process may have it open too (the CLI makes tokens), but this
  /// one may not have it open twice. `map_bytes`: the catalog never grows beyond it.
  /// unsupported: written by a newer version.
  static result<std::unique_ptr<catalog>> open(const std::filesystem::path& dir,
                                               std::size_t map_bytes = map_bytes_default);

  /// Opens what is there and changes nothing; `begin` is refused. A daemon may be at work on it.
  /// unsupported: another version wrote it. `is_private`: nobody else has it open, and no lock file
  /// is made.
  static result<std::unique_ptr<catalog>> open_read_only(const std::filesystem::path& dir,
                                                         bool is_private = false);

  ~catalog();
  catalog(const catalog&) = delete;
  catalog& operator=(const catalog&) = delete;

  // -- reading: what each answers is said in actors/interfaces.hpp
  // ---------------------------------
  //
  // A record of another project is not_found. With a tag prefix rows come in the order of their
  // tags, which puts the exact match first; all other listings are newest first, then by id, and
  // images with several tags by tag.

  result<frame<proto::TokenRecord>> find_token(proto::FindToken::Reader request) const;
  result<frame<proto::ImageRow>> get_image(proto::GetImage::Reader request) const;
  result<frame<proto::ImageRow>> resolve_tag(proto::ResolveTag::Reader request) const;
  result<frame<proto::ImagePage>> list_images(proto::ListImages::Reader request) const;
  result<frame<proto::OperationRecord>> get_operation(proto::GetOperation::Reader request) const;
  result<frame<proto::OperationPage>> list_operations(proto::ListOperations::Reader request) const;
  /// gone: the log was trimmed.
  result<frame<proto::EventPage>> list_events(proto::ListEvents::Reader request) const;
  result<frame<proto::FileRecord>> get_file(proto::GetFile::Reader request) const;
  result<frame<proto::FilePage>> list_files(proto::ListFiles::Reader request) const;
  result<frame<proto::FoundRequest>> find_request(proto::FindRequest::Reader request) const;
  result<frame<proto::UnfinishedPage>> list_unfinished(proto::ListUnfinished::Reader request) const;
  result<frame<proto::ActiveCounts>> count_active(proto::CountActive::Reader request) const;

  /// What an image came from, or what came of it (storage/catalog_tree.hpp). not_found.
  result<frame<proto::ImageTree>> walk_tree(proto::WalkTree::Reader request) const;

  /// Whether any project has an image of that id.
  bool has_image(const uuid& image) const;

  /// Whether an operation that was given the image has not ended.
  bool is_in_use(const uuid& image) const;

  /// Every project's images in the order of their ids, behind `after`, with any one tag; at most
  /// `page_rows_max`.
  result<frame<proto::ImagePage>> walk_images(const uuid& after) const;

  /// The newest image of the project that was imported from this manifest digest. not_found.
  result<frame<proto::ImageRow>> find_by_source(std::string_view project,
                                                std::string_view source_digest) const;

  // -- files and indexes of images (storage/catalog_lineage.hpp) ---------------------------------

  /// Of a live image, or of a checkpoint on which a live one stands. not_found.
  result<frame<proto::ImageIndex>> get_index(const uuid& image) const;

  /// Whether the file of that image must stay: the image is live, or files that stand on it are
  /// there. For removing leftovers.
  bool has_image_file(const uuid& image) const;

  /// Images that were deleted while other files stood on theirs, in the order of their ids, behind
  /// `after`; at most `page_rows_max`.
  result<std::vector<uuid>> list_dead_files(const uuid& after = {}) const;

  /// The images whose files stand on that one's, live and dead, in the same way.
  result<std::vector<uuid>> list_child_files(const uuid& image, const uuid& after = {}) const;

  /// The number of the latest commit, of whatever process: the difference of two counts them.
  std::uint64_t last_commit() const;
  // -- what projects take (storage/catalog_usage.hpp) --------------------------------------------

  /// All zeros for a project that has nothing.
  result<frame<proto::ProjectUsage>> get_usage(std::string_view project) const;

  /// Projects that have or had images or files, in their order; at most `page_rows_max`.
  result<std::vector<std::string>> list_projects(std::string_view after = {}) const;

  // -- walks over everything, a page at a time, for proofs and copies (catalog_scan.cpp) ---------

  /// A file in images/ that must be there.
  struct file_row {
    uuid image;
    uuid parent;             ///< on whose file it stands; nil: none
    bool is_live = false;    ///< there is an image
    bool is_deleted = false; ///< it says that there was one; never both
  };
  result<std::vector<file_row>> list_image_files(const uuid& after = {}) const;
  /// not_found.
  result<file_row> get_image_file(const uuid& image) const;

  struct image_link {
    uuid image;
    uuid parent;
  };
  result<std::vector<image_link>> list_image_links(const uuid& after = {}) const;

  /// An upload of a project.
  struct blob_row {
    std::string key; ///< where the next page begins
    sha256 digest{};
    std::uint64_t size_bytes = 0;
  };
  result<std::vector<blob_row>> list_blobs(std::string_view after_key = {}) const;
  /// Whether any project has it.
  result<bool> has_blob(const sha256& digest) const;

  /// Writes a copy of the latest commit into the empty folder `dir`, durably, while others write.
  result<void> copy_to(const std::filesystem::path& dir) const;

  // -- writing
  // -------------------------------------------------------------------------------------

  /// Begins the write transaction; waits for another process that is writing.
  /// conflict: this thread has one already.
  result<transaction> begin();

private:
  friend class record_proof; // holds the tables against each other (storage/fsck_records.hpp)
  struct impl;
  explicit catalog(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

/// One write transaction. Destroyed without commit: nothing happened. A failed call leaves the
/// transaction as it was before that call, but for request keys that were too old, where the
/// failure is not_found, conflict, busy or unsupported (a name that the catalog does not take);
/// after any other failure the whole transaction must be dropped, and commit refuses.
class catalog::transaction {
public:
  transaction(transaction&&) noexcept;
  ~transaction();

  // `eventCount`, `eventsTrimmed` and the heads of output are made here: what a record brings along
  // is not looked at.

  /// Creates or replaces. conflict: the record or the stored one is terminal, or the id is taken.
  result<void> put_operation(proto::OperationRecord::Reader record);
  /// The same, and what the client calls its request (storage/catalog_request_keys.hpp). conflict:
  /// that is known, and nothing was done; busy.
  result<void> put_operation(proto::OperationRecord::Reader record, proto::RequestKey::Reader key);
  /// Ids must continue the log without a gap. conflict: they do not, or the operation is terminal.
  result<void> append_events(const uuid& operation, capnp::List<proto::Event>::Reader events);
  /// The tag goes to the image, or without one to `resultImage`, which must then be there.
  /// conflict: the stored record is already terminal, the given one is not, or the image is not
  /// what the record says.
  result<void> finish_operation(proto::FinishOperation::Reader request);
  /// Gives up old event logs; records and results stay, with the first bytes of the output.
  result<frame<proto::EventsTrimmed>> trim_events(proto::TrimEvents::Reader policy);
  /// conflict: the id is taken (images do not change), or its parent or the checkpoint of its index
  /// is not there.
  result<void> put_image(proto::ImageRecord::Reader record);
  result<void> put_image(proto::ImageRecord::Reader record, proto::ImageIndex::Reader index);
  /// Its file and index stay while others need them. conflict: it has a tag (unless those go with
  /// it), or an operation that was given it has not ended.
  result<image_deletion> delete_image(std::string_view project, const uuid& image,
                                      with_tags tags = with_tags::no);
  result<frame<proto::ImageRow>> set_tag(proto::SetTag::Reader request);
  result<void> remove_tag(proto::RemoveTag::Reader request);
  result<frame<proto::FileRecord>> put_file(proto::PutFile::Reader request);
  result<void> put_token(const sha256& digest, proto::TokenRecord::Reader record);

  /// Durable when it returns. no_space: the disk or the map is full; nothing was written.
  result<void> commit();

private:
  friend class catalog;
  struct impl;
  explicit transaction(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

} // namespace coppice::storage
