#include "tests/gateway/inside_actors.hpp"

namespace coppice::test {
namespace {

frame<proto::ImageRow> row_of(const inside_double::image& image, const std::string& tag) {
  return make_frame<proto::ImageRow>([&](auto root) {
    auto record = root.initImage();
    image.id.to(record.initId());
    record.setProject(image.project);
    image.operation.to(record.initOperation());
    record.setCreatedAtUnixNs(1'704'110'400'123'456'000);
    record.setSizeBytes(28672);
    record.setLogicalBytes(image.logical_bytes);
    record.setSharedBytes(image.logical_bytes / 2);
    root.setTag(tag);
  });
}

frame<proto::FileRecord> record_of(const inside_double::file& file) {
  return make_frame<proto::FileRecord>([&](auto root) {
    file.id.to(root.initId());
    root.setProject(file.project);
    root.setSha256(data_of(file.sha256));
    root.setSizeBytes(file.size_bytes);
    root.setCreatedAtUnixNs(1'704'110'400'000'000'000);
    root.setUpdatedAtUnixNs(1'704'110'400'000'000'000);
  });
}

caf::result<frame<proto::ImageRow>> resolve_tag(inside_double& in, const std::string& project,
                                                const std::string& tag) {
  for (const auto& image : in.image_table) {
    if (image.project == project && std::count(image.tags.begin(), image.tags.end(), tag) > 0) {
      return row_of(image, tag);
    }
  }
  return nothing();
}

frame<proto::ImagePage> list_images(inside_double& in, proto::ListImages::Reader request) {
  std::vector<std::pair<const inside_double::image*, std::string>> rows;
  for (const auto& image : in.image_table) {
    for (const auto& tag : image.tags) {
      rows.emplace_back(&image, tag);
    }
    if (image.tags.empty() && !request.getTaggedOnly()) {
      rows.emplace_back(&image, "");
    }
  }
  return make_frame<proto::ImagePage>([&](auto root) {
    auto out = root.initRows(static_cast<capnp::uint>(rows.size()));
    for (capnp::uint i = 0; i < out.size(); ++i) {
      out.setWithCaveats(i, *row_of(*rows[i].first, rows[i].second).view());
    }
  });
}

frame<proto::OperationPage> list_operations(inside_double& in) {
  return make_frame<proto::OperationPage>([&](auto root) {
    auto rows = root.initRows(static_cast<capnp::uint>(in.operation_table.size()));
    capnp::uint i = 0;
    for (const auto& [id, record] : in.operation_table) {
      rows.setWithCaveats(i++, *record.view());
    }
  });
}

caf::result<frame<proto::EventPage>> list_events(inside_double& in,
                                                 proto::ListEvents::Reader request) {
  ++in.event_pages;
  if (in.is_trimmed) {
    return make_error(ec::gone, "the event log is not kept any longer");
  }
  const auto& all = in.event_table[uuid::from(request.getOperation())];
  auto first = std::min<std::size_t>(request.getFirstId(), all.size());
  auto last = first;
  for (std::size_t bytes = 0; last < all.size() && bytes < request.getMaxBytes(); ++last) {
    bytes += all[last].words().size() * sizeof(capnp::word);
  }
  return make_frame<proto::EventPage>([&](auto root) {
    auto out = root.initEvents(static_cast<capnp::uint>(last - first));
    for (capnp::uint i = 0; i < out.size(); ++i) {
      out.setWithCaveats(i, *all[first + i].view());
    }
  });
}

caf::result<frame<proto::FileRecord>> get_file(inside_double& in, proto::GetFile::Reader request) {
  for (const auto& file : in.file_table) {
    if (file.project == request.getProject().cStr() &&
        (file.id == uuid::from(request.getId()) || file.sha256 == bytes_in(request.getSha256()))) {
      return record_of(file);
    }
  }
  return nothing();
}

caf::result<frame<proto::FoundRequest>> find_request(inside_double& in,
                                                     proto::FindRequest::Reader request) {
  auto known = in.request_keys.find(bytes_in(request.getKey().getKey()));
  if (known == in.request_keys.end()) {
    return nothing();
  }
  return make_frame<proto::FoundRequest>([&](auto root) {
    root.setSame(known->second.first == bytes_in(request.getKey().getDigest()));
    if (auto operation = in.operation_table.find(known->second.second);
        operation != in.operation_table.end()) {
      auto view = operation->second.view();
      root.setOperation(*view);
    }
  });
}

/// Every image of the project is near the one that it has.
caf::result<frame<proto::ImageTree>> walk_tree(inside_double& in, proto::WalkTree::Reader request) {
  const std::string project = request.getProject();
  const auto from = uuid::from(request.getImage());
  if (find_image(in.image_table, project, from) == in.image_table.end()) {
    return nothing();
  }
  return make_frame<proto::ImageTree>([&](auto root) {
    auto nodes = root.initNodes(static_cast<capnp::uint>(in.image_table.size()));
    for (capnp::uint i = 0; i < nodes.size(); ++i) {
      auto row = row_of(in.image_table[i], "");
      auto view = row.view();
      nodes[i].setRow(*view);
      from.to(nodes[i].initParent());
      nodes[i].setDistance(i + 1);
    }
    root.setTruncated(true);
  });
}

caf::result<frame<proto::ImageRow>> set_tag(inside_double& in, proto::SetTag::Reader request) {
  std::string tag = request.getTag().cStr();
  auto found =
      find_image(in.image_table, request.getProject().cStr(), uuid::from(request.getImage()));
  if (found == in.image_table.end()) {
    return nothing();
  }
  found->tags.push_back(tag);
  return row_of(*found, tag);
}

} // namespace

catalog_reader_actor::behavior_type catalog_reader_double(catalog_reader_actor::pointer,
                                                          inside_double* in) {
  return {
      [in](const frame<proto::FindToken>& f) -> caf::result<frame<proto::TokenRecord>> {
        std::scoped_lock lock{in->mutex};
        auto found = in->tokens.find(bytes_in(f.view()->getSha256()));
        if (found == in->tokens.end()) {
          return make_error(ec::unauthorised, "unknown or expired token");
        }
        return found->second;
      },
      [in](const frame<proto::GetImage>& f) -> caf::result<frame<proto::ImageRow>> {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        auto found = find_image(in->image_table, v->getProject().cStr(), uuid::from(v->getId()));
        if (found == in->image_table.end()) {
          return nothing();
        }
        return row_of(*found, found->tags.empty() ? "" : found->tags.front());
      },
      [in](const frame<proto::ResolveTag>& f) -> caf::result<frame<proto::ImageRow>> {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        return resolve_tag(*in, v->getProject().cStr(), v->getTag().cStr());
      },
      [in](const frame<proto::ListImages>& f) {
        std::scoped_lock lock{in->mutex};
        in->image_listings.push_back(f);
        return list_images(*in, *f.view());
      },
      [in](const frame<proto::GetOperation>& f) -> caf::result<frame<proto::OperationRecord>> {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        auto found = in->operation_table.find(uuid::from(v->getId()));
        if (found == in->operation_table.end() ||
            found->second.view()->getProject() != v->getProject()) {
          return nothing();
        }
        return found->second;
      },
      [in](const frame<proto::ListOperations>& f) {
        std::scoped_lock lock{in->mutex};
        in->operation_listings.push_back(f);
        return list_operations(*in);
      },
      [in](const frame<proto::ListEvents>& f) {
        std::scoped_lock lock{in->mutex};
        return list_events(*in, *f.view());
      },
      [in](const frame<proto::GetFile>& f) {
        std::scoped_lock lock{in->mutex};
        return get_file(*in, *f.view());
      },
      [in](const frame<proto::ListFiles>&) {
        std::scoped_lock lock{in->mutex};
        return make_frame<proto::FilePage>([&](auto root) {
          auto rows = root.initRows(static_cast<capnp::uint>(in->file_table.size()));
          for (capnp::uint i = 0; i < rows.size(); ++i) {
            rows.setWithCaveats(i, *record_of(in->file_table[i]).view());
          }
        });
      },
      [](const frame<proto::ListUnfinished>&) { return make_frame<proto::UnfinishedPage>(); },
      [](const frame<proto::FindBySource>&) -> caf::result<frame<proto::ImageRow>> {
        return nothing();
      },
      [](const frame<proto::CountActive>&) {
        return make_frame<proto::ActiveCounts>([](auto root) {
          root.setInstances(3);
          root.setImports(1);
        });
      },
      [in](const frame<proto::FindRequest>& f) -> caf::result<frame<proto::FoundRequest>> {
        std::scoped_lock lock{in->mutex};
        return find_request(*in, *f.view());
      },
      [in](const frame<proto::WalkTree>& f) -> caf::result<frame<proto::ImageTree>> {
        std::scoped_lock lock{in->mutex};
        in->walks.push_back(f);
        return walk_tree(*in, *f.view());
      },
  };
}

catalog_writer_actor::behavior_type catalog_writer_double(catalog_writer_actor::pointer,
                                                          inside_double* in) {
  return {
      [](const frame<proto::PutOperation>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::AppendEvents>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::FinishOperation>&) { return make_frame<proto::Done>(); },
      [in](const frame<proto::SetTag>& f) {
        std::scoped_lock lock{in->mutex};
        return set_tag(*in, *f.view());
      },
      [in](const frame<proto::RemoveTag>& f) -> caf::result<frame<proto::Done>> {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        std::string tag = v->getTag().cStr();
        auto found = find_image(in->image_table, v->getProject().cStr(), uuid::from(v->getImage()));
        if (found == in->image_table.end() ||
            (!tag.empty() && std::count(found->tags.begin(), found->tags.end(), tag) == 0)) {
          return nothing();
        }
        in->removed_tags.push_back(tag);
        return make_frame<proto::Done>();
      },
      [](const frame<proto::DeleteImage>&) { return make_frame<proto::ImageDeleted>(); },
      [in](const frame<proto::PutFile>& f) -> caf::result<frame<proto::FileRecord>> {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        if (auto key = v->getKey(); key.getKey().size() != 0) {
          auto [known, is_new] = in->request_keys.try_emplace(bytes_in(key.getKey()),
                                                              bytes_in(key.getDigest()), uuid{});
          if (known->second.first != bytes_in(key.getDigest())) {
            return make_error(ec::conflict, "the key is known");
          }
        }
        auto record = v->getRecord();
        inside_double::file file{uuid::from(record.getId()), record.getProject().cStr(),
                                 bytes_in(record.getSha256()), record.getSizeBytes()};
        for (const auto& known : in->file_table) {
          if (known.sha256 == file.sha256 && known.project == file.project) {
            return record_of(known);
          }
        }
        in->file_table.push_back(file);
        return record_of(file);
      },
      [](const frame<proto::TrimEvents>&) { return make_frame<proto::EventsTrimmed>(); },
      [](const frame<proto::Tick>&) {},
  };
}

} // namespace coppice::test
