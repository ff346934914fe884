#pragma once

#include "storage/catalog_impl.hpp"
#include "storage/fsck.hpp"
#include "storage/fsck_rows.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace coppice::storage {

/// Holds the tables of a catalog against each other, for fsck.
///
/// Problem: a commit changes several tables at once, so only what is read in one view may be
/// compared; but a view must not be open for long, because space that a daemon frees behind it is
/// not used again and the catalog's file grows instead.
///
/// Guarantee: rows are looked at a page at a time, each page in a view of its own (which rows
/// belong together: fsck_rows.hpp). What looks wrong is looked at again in a later view.
///
/// The totals of projects are sums over all images, files and names of requests, and there is no
/// part of a sum that could be compared alone. So they are counted in one view, about half a second
/// for a million records. While nothing is committed that view costs nobody anything; it is given
/// up once `fsck_options::commits_behind_max` commits have come behind it, and begun again. If that
/// happens three times, the summary says that totals were not counted, which is not a problem of
/// the store. Memory: a page of keys, and the totals of `projects_at_once` projects; when there are
/// more, the records are walked again for the next ones.
class record_proof {
public:
  record_proof(const catalog& records, const fsck_options& how,
               std::function<void(const std::string&)> problem, fsck_summary& found);

  result<void> check_rows();
  result<void> check_totals();

private:
  struct table_check {
    const char* name;
    lmdb::table tables::*table;
    row_look look;
  };
  struct page {
    std::vector<std::string> suspects; ///< keys
    std::string last;                  ///< key
    std::uint64_t rows = 0;
    bool is_last = false; ///< what comes behind it later is not waited for
  };
  enum class pass { whole, given_up };
  class totals;

  result<void> check_table(const table_check& what);
  result<page> look_at_page(const table_check& what, const std::string& from) const;
  result<void> look_again(const table_check& what, const std::string& key);
  result<pass> count(totals& into) const;
  result<pass> add_records(lmdb::transaction& in, totals& into) const;
  bool count_keys(lmdb::transaction& in, totals& into) const;

  /// Between two pages; false: too much was committed behind the view.
  bool may_go_on(lmdb::transaction& in) const;

  const catalog& records_;
  const catalog::impl& impl_;
  const fsck_options& how_;
  std::function<void(const std::string&)> problem_;
  fsck_summary& found_;
};

} // namespace coppice::storage
