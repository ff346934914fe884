#pragma once

#include "actors/node_metrics.hpp"
#include "vmm/machine.hpp"
#include "vmm/template.hpp"
#include "vmm/template_build.hpp"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace coppice {

/// The templates that VMs of this node start from, one for each class.
///
/// Problem: a template takes seconds to make and a tenth of a second to load, a run must wait for
/// neither; and one that turns out to be bad must not fail run after run. So who asks gets what is
/// there, at once, and what is not there is loaded or built on a thread of the shelf's own, one at
/// a time. Until then, and where it cannot be done, VMs boot.
///
/// Guarantee: a template that was refused is never given again, nor loaded again; a class whose
/// templates fail is left alone for `rest`. One that so many VMs came from, or that is so old, as
/// the limits say, is made anew; until that is done it goes on being given. With a limit none is
/// kept over restarts, for its uses and its age would not be.
class template_shelf {
public:
  struct parts {
    vmm::event_loop* loop = nullptr; ///< outlives this
    std::filesystem::path folder;    ///< where they are kept over restarts
    std::uint64_t bytes_max = 4ull << 30;
    /// On the disk, after one is kept: runs need it more.
    std::uint64_t free_bytes_min = 1ull << 30;
    std::chrono::seconds deadline{120}; ///< for building one
    std::uint32_t uses_max = 0;         ///< VMs from one template; 0: no limit
    std::chrono::seconds age_max{0};    ///< 0: no limit
    std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
    /// For tests: loads or builds one instead. On the shelf's thread.
    std::function<std::shared_ptr<const vmm::vm_template>(const vmm::machine_options&)> make;
    std::function<std::chrono::steady_clock::time_point()> now = std::chrono::steady_clock::now;
  };
  static constexpr std::chrono::minutes rest{5};

  explicit template_shelf(parts from);
  ~template_shelf();
  template_shelf(const template_shelf&) = delete;
  template_shelf& operator=(const template_shelf&) = delete;

  /// For a VM of these options, which counts as a use; or null, and then one is being made. Any
  /// thread.
  std::shared_ptr<const vmm::vm_template> find(const vmm::machine_options& options);

  /// Tells one that was made from the next that is made for these options; 0: there is none, and
  /// it is being made. No use. Any thread.
  std::uint64_t number_of(const vmm::machine_options& options);

  /// A VM could not be restored from it. Any thread.
  void refuse(const std::shared_ptr<const vmm::vm_template>& bad, const std::string& why);

  /// Called on the shelf's thread when there is a new one. Set before the first find.
  void on_change(std::function<void()> call);

  /// Ends what is under way. Nothing is made any more. Any thread, more than once.
  void stop();

private:
  using class_key = std::pair<std::uint32_t, std::uint32_t>; ///< cpus, MiB
  struct place {
    std::shared_ptr<const vmm::vm_template> made;
    std::uint64_t number = 0;
    std::uint32_t uses = 0;
    std::chrono::steady_clock::time_point made_at{};
    bool is_asked_for = false; ///< waits for the thread, or the thread is at it
    bool was_refused = false;  ///< what is kept on disk is no good either
    std::chrono::steady_clock::time_point rests_until{};
  };

  bool has_limits() const {
    return parts_.uses_max > 0 || parts_.age_max > std::chrono::seconds{0};
  }
  bool is_past_limit(const place& where) const;
  /// Its place, if there is one to give; has made what is missing or past its limit.
  place* serving(const vmm::machine_options& options);
  void ask_for(const vmm::machine_options& options, place& where);
  void work();
  std::shared_ptr<const vmm::vm_template> make(const vmm::machine_options& options,
                                               bool is_kept_good);
  std::shared_ptr<const vmm::vm_template> build(const vmm::machine_options& options,
                                                vmm::template_ingredients ingredients);

  const parts parts_;
  std::function<void()> changed_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool is_stopped_ = false;
  std::map<class_key, place> places_;
  std::deque<vmm::machine_options> asked_;
  std::shared_ptr<vmm::template_build> under_way_;
  std::thread thread_;
};

} // namespace coppice
