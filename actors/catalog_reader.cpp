#include "actors/catalog_reader.hpp"

#include "actors/requests.hpp"

namespace coppice {

catalog_reader_actor::behavior_type
catalog_reader(catalog_reader_actor::stateful_pointer<catalog_reader_state> self,
               std::shared_ptr<const storage::catalog> catalog) {
  self->state.catalog = std::move(catalog);
  // One handler for each request: open the frame, look it up, translate the failure.
  auto serve = [self](auto request, auto look_up) {
    return guarded([&]() {
      auto view = request.view();
      return answer(((*self->state.catalog).*look_up)(*view));
    });
  };
  using storage::catalog;
  return {
      [serve](const frame<proto::FindToken>& r) { return serve(r, &catalog::find_token); },
      [serve](const frame<proto::GetImage>& r) { return serve(r, &catalog::get_image); },
      [serve](const frame<proto::ResolveTag>& r) { return serve(r, &catalog::resolve_tag); },
      [serve](const frame<proto::ListImages>& r) { return serve(r, &catalog::list_images); },
      [serve](const frame<proto::GetOperation>& r) { return serve(r, &catalog::get_operation); },
      [serve](const frame<proto::ListOperations>& r) {
        return serve(r, &catalog::list_operations);
      },
      [serve](const frame<proto::ListEvents>& r) { return serve(r, &catalog::list_events); },
      [serve](const frame<proto::GetFile>& r) { return serve(r, &catalog::get_file); },
      [serve](const frame<proto::ListFiles>& r) { return serve(r, &catalog::list_files); },
      [serve](const frame<proto::ListUnfinished>& r) {
        return serve(r, &catalog::list_unfinished);
      },
      [self](const frame<proto::FindBySource>& r) {
        return guarded([&]() {
          auto view = r.view();
          return answer(self->state.catalog->find_by_source(view->getProject().cStr(),
                                                            view->getDigest().cStr()));
        });
      },
      [serve](const frame<proto::CountActive>& r) { return serve(r, &catalog::count_active); },
      [serve](const frame<proto::FindRequest>& r) { return serve(r, &catalog::find_request); },
      [serve](const frame<proto::WalkTree>& r) { return serve(r, &catalog::walk_tree); },
  };
}

} // namespace coppice
