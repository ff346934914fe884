#pragma once

#include "protocol/result.hpp"
#include "vmm/event_loop.hpp"
#include "vmm/template.hpp"

#include <chrono>
#include <functional>
#include <memory>

namespace coppice::vmm {

/// Boots a guest to the agent's ready, saves it and ends it: a template.
///
/// Guarantee: `done` comes exactly once, on the event loop's thread, when QEMU is gone, whatever
/// went wrong: with a template, or with why there is none, and then nothing is left of it.
class template_build {
public:
  using answer = std::function<void(result<std::shared_ptr<const vm_template>>)>;

  /// `ingredients`: of the same options (collect_ingredients). `options.from` must be empty. The
  /// deadline is for all of it; options.boot_timeout holds besides.
  /// missing; stale: an ingredient has changed since; spawn; io. `done` is not called then.
  static result<std::shared_ptr<template_build>>
  start(event_loop& loop, const machine_options& options, template_ingredients ingredients,
        std::chrono::milliseconds deadline, answer done);

  /// Cancels it, if it is still under way.
  ~template_build();
  template_build(const template_build&) = delete;
  template_build& operator=(const template_build&) = delete;

  /// Ends it soon; `done` comes with exited. Any thread.
  void cancel();

private:
  struct impl;
  template_build(std::shared_ptr<impl> state, std::shared_ptr<machine> vm);

  std::shared_ptr<impl> impl_;
  std::shared_ptr<machine> vm_;
};

} // namespace coppice::vmm
