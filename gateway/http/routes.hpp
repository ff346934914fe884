#pragma once

#include "gateway/http/exchange.hpp"

/// One function a route; router.cpp says which answers what.
namespace coppice::gateway {

// -- routes_account.cpp --------------------------------------------------------------------------

asio::awaitable<reply> get_health(exchange& x);
asio::awaitable<reply> get_ready(exchange& x);
asio::awaitable<reply> get_metrics(exchange& x);
asio::awaitable<reply> get_whoami(exchange& x);

// -- routes_page.cpp -----------------------------------------------------------------------------

asio::awaitable<reply> get_asset(exchange& x);

// -- routes_images.cpp ---------------------------------------------------------------------------

asio::awaitable<reply> get_images(exchange& x);
asio::awaitable<reply> get_image(exchange& x);
asio::awaitable<reply> delete_image(exchange& x);
asio::awaitable<reply> patch_tag(exchange& x);
asio::awaitable<reply> delete_tag(exchange& x);
asio::awaitable<reply> post_import(exchange& x);
asio::awaitable<reply> post_admin_import(exchange& x);

// -- routes_tree.cpp -----------------------------------------------------------------------------

asio::awaitable<reply> get_image_ancestors(exchange& x);
asio::awaitable<reply> get_image_children(exchange& x);
asio::awaitable<reply> get_image_tree(exchange& x);

// -- routes_files.cpp ----------------------------------------------------------------------------

asio::awaitable<reply> post_file(exchange& x);
asio::awaitable<reply> get_files(exchange& x);
asio::awaitable<reply> get_file(exchange& x);

// -- routes_instances.cpp ------------------------------------------------------------------------

asio::awaitable<reply> post_instance(exchange& x);

// -- routes_operations.cpp -----------------------------------------------------------------------

asio::awaitable<reply> get_operations(exchange& x);
asio::awaitable<reply> get_operation(exchange& x);
asio::awaitable<reply> delete_operation(exchange& x);

// -- routes_events.cpp ---------------------------------------------------------------------------

asio::awaitable<reply> get_operation_events(exchange& x);

// -- routes_subprocesses.cpp ---------------------------------------------------------------------

asio::awaitable<reply> get_subprocesses(exchange& x);
asio::awaitable<reply> post_subprocess(exchange& x);
asio::awaitable<reply> get_subprocess(exchange& x);
asio::awaitable<reply> delete_subprocess(exchange& x);
asio::awaitable<reply> post_stdin(exchange& x);

// -- routes_inspect.cpp --------------------------------------------------------------------------

asio::awaitable<reply> redirect_inspect(exchange& x);
asio::awaitable<reply> get_inspect_tag(exchange& x);
asio::awaitable<reply> redirect_inspect_image(exchange& x);
asio::awaitable<reply> get_inspect_image(exchange& x);
asio::awaitable<reply> get_inspect_list(exchange& x);

// -- routes_inspect_content.cpp ------------------------------------------------------------------

asio::awaitable<reply> get_inspect_download(exchange& x);
asio::awaitable<reply> get_inspect_archive(exchange& x);

// -- routes_inspect_grep.cpp ---------------------------------------------------------------------

asio::awaitable<reply> get_inspect_grep(exchange& x);

// -- routes_diff.cpp -----------------------------------------------------------------------------

asio::awaitable<reply> get_image_diff(exchange& x);

} // namespace coppice::gateway
