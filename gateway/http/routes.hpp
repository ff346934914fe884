#pragma once

#include "gateway/http/exchange.hpp"

/// One function a route; router.cpp says which answers what.
namespace coppice::gateway {

// -- routes_account.cpp --------------------------------------------------------------------------

asio::awaitable<reply> get_health(exchange& x);
asio::awaitable<reply> get_metrics(exchange& x);
asio::awaitable<reply> get_whoami(exchange& x);

// -- routes_images.cpp ---------------------------------------------------------------------------

asio::awaitable<reply> get_images(exchange& x);
asio::awaitable<reply> get_image(exchange& x);
asio::awaitable<reply> delete_image(exchange& x);
asio::awaitable<reply> patch_tag(exchange& x);
asio::awaitable<reply> delete_tag(exchange& x);
asio::awaitable<reply> post_import(exchange& x);
asio::awaitable<reply> post_admin_import(exchange& x);

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

// -- routes_inspect.cpp --------------------------------------------------------------------------

asio::awaitable<reply> redirect_inspect(exchange& x);
asio::awaitable<reply> get_inspect_tag(exchange& x);
asio::awaitable<reply> redirect_inspect_image(exchange& x);
asio::awaitable<reply> get_inspect_image(exchange& x);
asio::awaitable<reply> get_inspect_list(exchange& x);
asio::awaitable<reply> get_inspect_download(exchange& x);

} // namespace coppice::gateway
