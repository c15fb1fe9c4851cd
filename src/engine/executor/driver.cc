#include "engine/executor/driver.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"

namespace tandem::executor {
namespace {

// Room for a driver's reason.
class Reason {
 public:
  tandem_driver_message message() { return {text_.data(), text_.size()}; }
  std::string Text() const {
    const std::string_view text(text_.data(), strnlen(text_.data(), text_.size()));
    if (text.empty()) return "the driver gives no reason";
    return utf8::Sanitize(text);
  }

 private:
  std::array<char, 512> text_{};
};

template <size_t N>
std::string TextOf(const char (&field)[N]) {
  return utf8::Sanitize(std::string_view(field, strnlen(field, N)));
}

std::unexpected<Error> Failed(const Driver& driver, tandem_driver_status status,
                              std::string_view what, const Reason& reason) {
  const std::string name = driver.path().filename().string();
  switch (status) {
    case TANDEM_DRIVER_OUT_OF_MEMORY:
      return std::unexpected(
          Error{.code = ErrorCode::kResourceExhausted,
                .message = fmt::format("driver {}: {}: {}", name, what, reason.Text()),
                .param = "memory"});
    case TANDEM_DRIVER_UNSUPPORTED:
      return Err(ErrorCode::kUnsupported, "driver {}: {}: {}", name, what, reason.Text());
    case TANDEM_DRIVER_CONTEXT_FAILED:
    case TANDEM_DRIVER_DEVICE_LOST:
      return Err(ErrorCode::kUnavailable, "driver {}: {}: {}", name, what, reason.Text());
    default:
      return Err(ErrorCode::kInternal, "driver {}: {}: {} (status {})", name, what, reason.Text(),
                 static_cast<int>(status));
  }
}

class DriverExecutor;

class DriverSlot final : public Slot {
 public:
  DriverSlot(const DriverExecutor* owner, int32_t id) : owner_(owner), id_(id) {}
  ~DriverSlot() override;
  DriverSlot(const DriverSlot&) = delete;
  DriverSlot& operator=(const DriverSlot&) = delete;

  int32_t length() const override { return length_; }
  int32_t context_tokens() const override;
  uint64_t bytes() const override;
  void Truncate(int32_t n_tokens) override;

  int32_t id() const { return id_; }
  void set_length(int32_t length) { length_ = length; }
  // After a call that the driver refused, nobody knows what it holds.
  bool lost() const { return lost_; }
  void set_lost(bool lost) { lost_ = lost; }

 private:
  const DriverExecutor* const owner_;
  const int32_t id_;
  int32_t length_ = 0;
  bool lost_ = false;
};

class DriverExecutor final : public Executor {
 public:
  DriverExecutor(std::shared_ptr<const Driver> driver, tandem_context* context,
                 const tandem_context_info& info)
      : driver_(std::move(driver)), context_(context), info_(info) {}
  ~DriverExecutor() override { table().destroy(context_); }
  DriverExecutor(const DriverExecutor&) = delete;
  DriverExecutor& operator=(const DriverExecutor&) = delete;

  int32_t vocab_size() const override { return info_.vocab_size; }
  int32_t context_tokens() const override { return info_.context_tokens; }
  StepLimits limits() const override {
    return {.max_tokens = info_.max_step_tokens, .max_logit_rows = info_.max_logit_rows};
  }
  uint64_t weights_bytes() const override { return info_.weights_bytes; }
  uint64_t scratch_bytes() const override { return info_.scratch_bytes; }
  uint64_t SlotBytes(KvPrecision) const override { return info_.slot_bytes; }

  Result<std::unique_ptr<Slot>> NewSlot(KvPrecision) override {
    Reason reason;
    int32_t id = 0;
    const auto status = table().slot_open(context_, &id, reason.message());
    if (status != TANDEM_DRIVER_OK) return Failed(*driver_, status, "a KV cache", reason);
    return std::make_unique<DriverSlot>(this, id);
  }

  void CopyPrefix(Slot& from_slot, int32_t n_tokens, Slot& to_slot) override {
    auto& from = static_cast<DriverSlot&>(from_slot);
    auto& to = static_cast<DriverSlot&>(to_slot);
    TANDEM_CHECK(n_tokens >= 0 && n_tokens <= from.length());
    const auto status = table().slot_copy(context_, from.id(), n_tokens, to.id());
    to.set_lost(status != TANDEM_DRIVER_OK || from.lost());
    to.set_length(n_tokens);
  }

  Status Step(std::span<const SlotStep> batch, std::span<float> logits) override;

  const tandem_driver& table() const { return driver_->table(); }
  tandem_context* context() const { return context_; }
  const tandem_context_info& info() const { return info_; }

 private:
  Status Validate(std::span<const SlotStep> batch, std::span<float> logits) const;

  const std::shared_ptr<const Driver> driver_;
  tandem_context* const context_;
  const tandem_context_info info_;
  std::vector<tandem_step_entry> entries_;  // of the current step
};

DriverSlot::~DriverSlot() { owner_->table().slot_close(owner_->context(), id_); }
int32_t DriverSlot::context_tokens() const { return owner_->info().context_tokens; }
uint64_t DriverSlot::bytes() const { return owner_->info().slot_bytes; }
void DriverSlot::Truncate(int32_t n_tokens) {
  TANDEM_CHECK(n_tokens >= 0 && n_tokens <= length_);
  lost_ |= owner_->table().slot_truncate(owner_->context(), id_, n_tokens) != TANDEM_DRIVER_OK;
  length_ = n_tokens;
}

Status DriverExecutor::Validate(std::span<const SlotStep> batch, std::span<float> logits) const {
  int64_t n_tokens = 0;
  int64_t n_rows = 0;
  for (const SlotStep& step : batch) {
    const auto& slot = static_cast<const DriverSlot&>(*step.slot);
    if (slot.lost()) {
      return Err(ErrorCode::kUnavailable, "driver {}: this sequence was lost when a call failed",
                 driver_->path().filename().string());
    }
    const auto n = std::ssize(step.token_ids);
    if (n < 1 || step.n_logit_rows < 0 || step.n_logit_rows > n) {
      return Err(ErrorCode::kInvalidArgument, "an entry has {} tokens and {} rows of logits", n,
                 step.n_logit_rows);
    }
    if (slot.length() + n > info_.context_tokens) {
      return Err(ErrorCode::kResourceExhausted, "a context of {} tokens is full",
                 info_.context_tokens);
    }
    const auto wrong = std::ranges::find_if(
        step.token_ids, [&](int32_t id) { return id < 0 || id >= info_.vocab_size; });
    if (wrong != step.token_ids.end()) {
      return Err(ErrorCode::kInvalidArgument, "token {} is not in a vocabulary of {}", *wrong,
                 info_.vocab_size);
    }
    n_tokens += n;
    n_rows += step.n_logit_rows;
  }
  if (n_tokens > info_.max_step_tokens || n_rows > info_.max_logit_rows) {
    return Err(ErrorCode::kInvalidArgument, "a step of {} tokens and {} rows; at most {} and {}",
               n_tokens, n_rows, info_.max_step_tokens, info_.max_logit_rows);
  }
  if (std::ssize(logits) < n_rows * info_.vocab_size) {
    return Err(ErrorCode::kInvalidArgument, "no room for {} rows of logits", n_rows);
  }
  return {};
}

Status DriverExecutor::Step(std::span<const SlotStep> batch, std::span<float> logits) {
  TANDEM_RETURN_IF_ERROR(Validate(batch, logits));
  entries_.clear();
  for (const SlotStep& step : batch) {
    entries_.push_back({.slot = static_cast<DriverSlot&>(*step.slot).id(),
                        .n_tokens = static_cast<int32_t>(step.token_ids.size()),
                        .token_ids = step.token_ids.data(),
                        .n_logit_rows = step.n_logit_rows});
  }
  Reason reason;
  const auto status =
      table().step(context_, entries_.data(), entries_.size(), logits.data(), reason.message());
  for (const SlotStep& step : batch) {
    auto& slot = static_cast<DriverSlot&>(*step.slot);
    if (status == TANDEM_DRIVER_OK) {
      slot.set_length(slot.length() + static_cast<int32_t>(step.token_ids.size()));
    } else {
      slot.set_lost(true);
    }
  }
  if (status != TANDEM_DRIVER_OK) return Failed(*driver_, status, "a step", reason);
  return {};
}

}  // namespace

std::string_view DeviceKindName(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kOther:
      return "other";
    case DeviceKind::kGpu:
      return "gpu";
    case DeviceKind::kNpu:
      return "npu";
  }
  TANDEM_CHECK(false);
}

Result<std::shared_ptr<const Driver>> Driver::Load(const std::filesystem::path& path) {
  std::error_code error;
  // Without a slash dlopen() would look into the system's library directories.
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error || !std::filesystem::is_regular_file(absolute, error)) {
    return Err(ErrorCode::kNotFound, "there is no driver {}", path.string());
  }
  std::shared_ptr<Driver> driver(new Driver);
  driver->path_ = absolute;
  // The code stays in memory: vendors' libraries leave threads, thread-local destructors and static
  // state behind, which dlclose() would pull the ground from.
  driver->library_ = dlopen(absolute.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (driver->library_ == nullptr) {
    return Err(ErrorCode::kUnsupported, "driver {}: {}", absolute.filename().string(), dlerror());
  }
  const auto entry =
      reinterpret_cast<tandem_driver_entry_fn>(dlsym(driver->library_, TANDEM_DRIVER_ENTRY_NAME));
  if (entry == nullptr) {
    return Err(ErrorCode::kUnsupported, "{} is no executor driver: it does not export {}",
               absolute.filename().string(), TANDEM_DRIVER_ENTRY_NAME);
  }
  driver->table_ = entry(TANDEM_DRIVER_ABI_VERSION);
  const tandem_driver* table = driver->table_;
  if (table == nullptr || table->struct_size < sizeof(tandem_driver) ||
      table->abi_version != TANDEM_DRIVER_ABI_VERSION) {
    return Err(ErrorCode::kUnsupported,
               "driver {} does not speak version {} of the driver interface; install a version of "
               "it that does",
               absolute.filename().string(), TANDEM_DRIVER_ABI_VERSION);
  }
  if (!table->probe || !table->reset || !table->create || !table->destroy || !table->slot_open ||
      !table->slot_close || !table->slot_truncate || !table->slot_copy || !table->step) {
    return Err(ErrorCode::kUnsupported, "driver {} leaves functions of the interface out",
               absolute.filename().string());
  }
  return driver;
}

Driver::~Driver() {
  if (library_ != nullptr) dlclose(library_);
}

Result<DeviceInfo> Driver::Probe() const {
  tandem_device_info info{};
  info.struct_size = sizeof(info);
  Reason reason;
  const auto status = table_->probe(&info, reason.message());
  if (status != TANDEM_DRIVER_OK) return Failed(*this, status, "no device", reason);
  return DeviceInfo{.kind = info.kind == TANDEM_DEVICE_GPU   ? DeviceKind::kGpu
                            : info.kind == TANDEM_DEVICE_NPU ? DeviceKind::kNpu
                                                             : DeviceKind::kOther,
                    .driver_name = TextOf(info.driver_name),
                    .driver_version = TextOf(info.driver_version),
                    .device_name = TextOf(info.device_name),
                    .memory_bytes = info.memory_bytes};
}

Status Driver::Reset() const {
  Reason reason;
  const auto status = table_->reset(reason.message());
  if (status != TANDEM_DRIVER_OK) return Failed(*this, status, "reset", reason);
  return {};
}

Result<std::unique_ptr<Executor>> CreateDriverExecutor(std::shared_ptr<const Driver> driver,
                                                       const DriverExecutorOptions& options) {
  const std::string package = options.package.string();
  const tandem_context_options wanted{.struct_size = sizeof(wanted),
                                      .package_path = package.c_str(),
                                      .context_tokens = options.context_tokens,
                                      .max_step_tokens = options.limits.max_tokens,
                                      .max_logit_rows = options.limits.max_logit_rows,
                                      .max_slots = options.max_slots,
                                      .memory_limit_bytes = options.memory_limit_bytes};
  tandem_context* context = nullptr;
  tandem_context_info info{};
  info.struct_size = sizeof(info);
  Reason reason;
  const auto status = driver->table().create(&wanted, &context, &info, reason.message());
  if (status != TANDEM_DRIVER_OK) return Failed(*driver, status, "no context", reason);
  if (context == nullptr) {
    return Err(ErrorCode::kInternal, "driver {} created a context that is null",
               driver->path().filename().string());
  }
  auto executor = std::make_unique<DriverExecutor>(driver, context, info);
  if (info.vocab_size < 1 || info.context_tokens < 1 ||
      info.context_tokens > options.context_tokens || info.max_step_tokens < 1 ||
      info.max_step_tokens > options.limits.max_tokens || info.max_logit_rows < 1 ||
      info.max_logit_rows > options.limits.max_logit_rows) {
    return Err(
        ErrorCode::kInternal,
        "driver {} created a context of {} tokens, {} a step, {} rows of {} logits, where at "
        "most {}, {}, {} were asked for",
        driver->path().filename().string(), info.context_tokens, info.max_step_tokens,
        info.max_logit_rows, info.vocab_size, options.context_tokens, options.limits.max_tokens,
        options.limits.max_logit_rows);
  }
  return executor;
}

}  // namespace tandem::executor
