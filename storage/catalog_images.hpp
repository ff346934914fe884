#pragma once

#include "protocol/messages.capnp.h"
#include "protocol/records.capnp.h"
#include "protocol/uuid.hpp"
#include "storage/catalog_tables.hpp"

#include <optional>
#include <string_view>

/// Images, their tags and the listing index over both, kept true together.
///
/// Guarantee: an image has one row in the index for each of its tags, or one row without a tag.
/// Callers have checked names and that the image is there; failures are the transaction's.
namespace coppice::storage {

enum class row_scope : char {
  all = 0,    ///< tagged and untagged rows
  tagged = 1, ///< tagged rows only
};

/// Where the rows of a project begin; then newest_first, id, tag.
std::string image_index_prefix(std::string_view project, row_scope scope);

void insert_image(lmdb::transaction& in, const tables& t, proto::ImageRecord::Reader record);

/// Takes away all of an image that has no tag.
void erase_image(lmdb::transaction& in, const tables& t, proto::ImageRecord::Reader record);

/// Gives the tag to the image; another image of the project loses it.
void attach_tag(lmdb::transaction& in, const tables& t, proto::ImageRecord::Reader image,
                std::string_view tag);

/// Takes one tag from the image that has it; false: it is not on that image.
bool detach_tag(lmdb::transaction& in, const tables& t, std::string_view project, const uuid& image,
                std::string_view tag);

/// The first of the image's tags after `after`, in their order.
std::optional<std::string> next_tag(lmdb::transaction& in, const tables& t, const uuid& image,
                                    std::string_view after = {});

/// What a tag points at.
struct tag_target {
  uuid image;
  std::int64_t created_unix_ns = 0;
};
std::optional<tag_target> find_tag(lmdb::transaction& in, const tables& t, std::string_view project,
                                   std::string_view tag);
tag_target target_of(std::string_view tags_value);

/// The image if the project has it, else an empty frame.
frame<proto::ImageRecord> load_image(lmdb::transaction& in, const tables& t,
                                     std::string_view project, const uuid& id);

frame<proto::ImageRow> make_image_row(proto::ImageRecord::Reader image, std::string_view tag);

} // namespace coppice::storage
