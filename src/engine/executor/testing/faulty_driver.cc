// A driver for tests: it computes with this machine's cores, and does one thing wrong.
//
// TANDEM_FAULTY_DRIVER names it:
//   (empty)        nothing is wrong
//   no_device      probe finds no device
//   create_once    the first context cannot be created, in whichever process; the file that
//                  TANDEM_FAULTY_DRIVER_STATE names remembers
//   create_until_reset   no context can be created before a reset (the same file)
//   create_fails, create_hangs, create_crashes
//   step_fails     the device is lost at the third step
//   step_hangs, step_crashes   likewise
//   nan            one logit is not a number
//   wrong          logits are a little wrong from the 65th token of a sequence on
//   slow           every step takes 50 ms
//   leak           every step keeps memory
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/executor/cpu_executor.h"
#include "engine/executor/driver_abi.h"
#include "engine/kernels/kernels.h"
#include "engine/model/model.h"
#include "engine/package/file.h"
#include "os/cpu.h"

namespace ex = tandem::executor;

struct tandem_context {
  std::unique_ptr<ex::CpuExecutor> executor;
  std::map<int32_t, std::unique_ptr<ex::Slot>> slots;
  int32_t max_slots = 0;
  int n_steps = 0;
};

namespace {

std::string_view Fault() {
  const char* fault = std::getenv("TANDEM_FAULTY_DRIVER");
  return fault == nullptr ? "" : fault;
}

bool Remembered(std::string_view word) {
  const char* path = std::getenv("TANDEM_FAULTY_DRIVER_STATE");
  std::ifstream file(path == nullptr ? "" : path);
  std::string line;
  while (std::getline(file, line)) {
    if (line == word) return true;
  }
  return false;
}
void Remember(std::string_view word) {
  const char* path = std::getenv("TANDEM_FAULTY_DRIVER_STATE");
  std::ofstream(path == nullptr ? "" : path, std::ios::app) << word << '\n';
}

tandem_driver_status Say(tandem_driver_message why, std::string_view text,
                         tandem_driver_status status) {
  std::snprintf(why.text, why.capacity, "%.*s", static_cast<int>(text.size()), text.data());
  return status;
}

// What leaks, so that no compiler thinks that it is not needed.
std::vector<char*>& Kept() {
  static std::vector<char*> kept;
  return kept;
}

[[noreturn]] void Hang() {
  for (;;) pause();
}

void Crash() {
  std::signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would make an exit of it
  volatile int* nowhere = nullptr;
  *nowhere = 1;
}

tandem_driver_status Probe(tandem_device_info* info, tandem_driver_message why) {
  if (Fault() == "no_device") {
    return Say(why, "no such accelerator on the bus", TANDEM_DRIVER_UNSUPPORTED);
  }
  info->kind = TANDEM_DEVICE_NPU;
  const char* version = std::getenv("TANDEM_FAULTY_DRIVER_VERSION");
  std::snprintf(info->driver_name, sizeof(info->driver_name), "faulty");
  std::snprintf(info->driver_version, sizeof(info->driver_version), "%s",
                version == nullptr ? "1.0" : version);
  std::snprintf(info->device_name, sizeof(info->device_name), "test NPU");
  info->memory_bytes = uint64_t{1} << 30;
  return TANDEM_DRIVER_OK;
}

tandem_driver_status Reset(tandem_driver_message) {
  if (Fault() == "create_until_reset") Remember("reset");
  return TANDEM_DRIVER_OK;
}

tandem_driver_status Create(const tandem_context_options* options, tandem_context** context,
                            tandem_context_info* info, tandem_driver_message why) {
  const std::string_view fault = Fault();
  if (fault == "create_fails" || (fault == "create_until_reset" && !Remembered("reset"))) {
    return Say(why, "QNN_CONTEXT_ERROR_CREATE_FROM_BINARY", TANDEM_DRIVER_CONTEXT_FAILED);
  }
  if (fault == "create_once" && !Remembered("failed once")) {
    Remember("failed once");
    return Say(why, "the device is busy", TANDEM_DRIVER_CONTEXT_FAILED);
  }
  if (fault == "create_hangs") Hang();
  if (fault == "create_crashes") Crash();
  auto file = tandem::package::File::Open(options->package_path);
  if (!file) return Say(why, file.error().message, TANDEM_DRIVER_UNSUPPORTED);
  // The best instructions, whatever TANDEM_ISA says: with "scalar" there this one is the faster.
  const auto kernels = tandem::kernels::Select("", tandem::os::HostCpu());
  if (!kernels) return Say(why, kernels.error().message, TANDEM_DRIVER_UNSUPPORTED);
  auto model = tandem::model::Model::Load(*std::move(file), {.kernels = *kernels});
  if (!model) return Say(why, model.error().message, TANDEM_DRIVER_UNSUPPORTED);
  // All cores, as the reference: what is as fast as the CPU may be used.
  auto executor = ex::CpuExecutor::Create(*std::move(model),
                                          {.n_threads = 0,
                                           .context_tokens = options->context_tokens,
                                           .limits = {.max_tokens = options->max_step_tokens,
                                                      .max_logit_rows = options->max_logit_rows}});
  if (!executor) return Say(why, executor.error().message, TANDEM_DRIVER_OUT_OF_MEMORY);
  auto made = std::make_unique<tandem_context>();
  made->executor = *std::move(executor);
  made->max_slots = options->max_slots;
  info->vocab_size = made->executor->vocab_size();
  info->context_tokens = made->executor->context_tokens();
  info->max_step_tokens = made->executor->limits().max_tokens;
  info->max_logit_rows = made->executor->limits().max_logit_rows;
  info->weights_bytes = made->executor->weights_bytes();
  info->scratch_bytes = made->executor->scratch_bytes();
  info->slot_bytes = made->executor->SlotBytes(ex::KvPrecision::kF16);
  *context = made.release();
  return TANDEM_DRIVER_OK;
}

void Destroy(tandem_context* context) { delete context; }

tandem_driver_status SlotOpen(tandem_context* context, int32_t* slot, tandem_driver_message why) {
  if (std::ssize(context->slots) >= context->max_slots) {
    return Say(why, "all slots are open", TANDEM_DRIVER_OUT_OF_MEMORY);
  }
  auto made = context->executor->NewSlot(ex::KvPrecision::kF16);
  if (!made) return Say(why, made.error().message, TANDEM_DRIVER_OUT_OF_MEMORY);
  int32_t id = 0;
  while (context->slots.contains(id)) ++id;
  context->slots.emplace(id, *std::move(made));
  *slot = id;
  return TANDEM_DRIVER_OK;
}

void SlotClose(tandem_context* context, int32_t slot) { context->slots.erase(slot); }

tandem_driver_status SlotTruncate(tandem_context* context, int32_t slot, int32_t n_tokens) {
  context->slots.at(slot)->Truncate(n_tokens);
  return TANDEM_DRIVER_OK;
}

tandem_driver_status SlotCopy(tandem_context* context, int32_t from, int32_t n_tokens, int32_t to) {
  context->executor->CopyPrefix(*context->slots.at(from), n_tokens, *context->slots.at(to));
  return TANDEM_DRIVER_OK;
}

tandem_driver_status Step(tandem_context* context, const tandem_step_entry* entries,
                          size_t n_entries, float* logits, tandem_driver_message why) {
  const std::string_view fault = Fault();
  if (++context->n_steps == 3) {
    if (fault == "step_fails") {
      return Say(why, "the DSP was restarted", TANDEM_DRIVER_DEVICE_LOST);
    }
    if (fault == "step_hangs") Hang();
    if (fault == "step_crashes") Crash();
  }
  if (fault == "slow") {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
    while (std::chrono::steady_clock::now() < end) {
    }
  }
  if (fault == "leak") {
    constexpr size_t kBytes = size_t{64} << 20;
    char* kept = static_cast<char*>(std::malloc(kBytes));
    if (kept == nullptr) return Say(why, "out of memory", TANDEM_DRIVER_OUT_OF_MEMORY);
    std::memset(kept, context->n_steps, kBytes);
    Kept().push_back(kept);
  }
  std::vector<ex::SlotStep> batch;
  size_t n_rows = 0;
  bool late = false;
  for (size_t i = 0; i < n_entries; ++i) {
    ex::Slot* slot = context->slots.at(entries[i].slot).get();
    batch.push_back({.slot = slot,
                     .token_ids = {entries[i].token_ids, static_cast<size_t>(entries[i].n_tokens)},
                     .n_logit_rows = entries[i].n_logit_rows});
    n_rows += static_cast<size_t>(entries[i].n_logit_rows);
    late |= slot->length() + entries[i].n_tokens > 64;
  }
  const std::span<float> rows(logits,
                              n_rows * static_cast<size_t>(context->executor->vocab_size()));
  const tandem::Status stepped = context->executor->Step(batch, rows);
  if (!stepped) return Say(why, stepped.error().message, TANDEM_DRIVER_INTERNAL);
  if (fault == "nan" && context->n_steps > 2 && !rows.empty()) rows[rows.size() / 2] = NAN;
  if (fault == "wrong" && late) {
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] += 0.4F * std::sin(static_cast<float>(i)) * std::abs(rows[i]);
    }
  }
  return TANDEM_DRIVER_OK;
}

constexpr tandem_driver kTable{.struct_size = sizeof(tandem_driver),
                               .abi_version = TANDEM_DRIVER_ABI_VERSION,
                               .probe = Probe,
                               .reset = Reset,
                               .create = Create,
                               .destroy = Destroy,
                               .slot_open = SlotOpen,
                               .slot_close = SlotClose,
                               .slot_truncate = SlotTruncate,
                               .slot_copy = SlotCopy,
                               .step = Step};

}  // namespace

extern "C" __attribute__((visibility("default"))) const tandem_driver* tandem_driver_entry(
    uint32_t abi_version) {
  return abi_version == TANDEM_DRIVER_ABI_VERSION ? &kTable : nullptr;
}
