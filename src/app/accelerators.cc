#include "app/accelerators.h"

#include <sys/utsname.h>

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "base/log.h"
#include "crypto/digest.h"
#include "engine/packing.h"
#include "os/child_process.h"
#include "os/file.h"
#include "os/memory.h"

namespace tandem::app {
namespace {

namespace json = boost::json;
using End = os::ChildOutcome::End;
using fleet::Finding;

// A child that took so much of its limit before it failed ran out of it.
constexpr double kMemoryShare = 0.8;

std::string ErrorJson(const Error& error) {
  return json::serialize(
      json::object{{"error", {{"code", ErrorCodeName(error.code)}, {"message", error.message}}}});
}

json::object DeviceJson(const engine::DeviceInfo& device) {
  return {{"kind", engine::DeviceKindName(device.kind)},
          {"driver_name", device.driver_name},
          {"driver_version", device.driver_version},
          {"device_name", device.device_name},
          {"memory_bytes", device.memory_bytes}};
}

// Members of a child's answer. Whatever is missing or mistyped makes the whole of no use.
class Members {
 public:
  explicit Members(const json::value& value) : object_(value.if_object()) {}

  std::string Text(std::string_view name) {
    const json::string* text = Find(name).if_string();
    complete_ &= text != nullptr;
    return text == nullptr ? std::string() : std::string(text->data(), text->size());
  }
  double Real(std::string_view name) {
    const json::value& value = Find(name);
    complete_ &= value.is_number();
    return value.is_number() ? value.to_number<double>() : 0;
  }
  bool Bool(std::string_view name) {
    const bool* value = Find(name).if_bool();
    complete_ &= value != nullptr;
    return value != nullptr && *value;
  }
  bool complete() const { return complete_; }

 private:
  const json::value& Find(std::string_view name) const {
    static const json::value nothing;
    const json::value* value =
        object_ == nullptr ? nullptr : object_->if_contains({name.data(), name.size()});
    return value == nullptr ? nothing : *value;
  }

  const json::object* const object_;
  bool complete_ = true;
};

std::optional<engine::DeviceInfo> ReadDevice(const json::value& value) {
  Members members(value);
  engine::DeviceInfo device;
  const std::string kind = members.Text("kind");
  if (kind == "gpu") device.kind = engine::DeviceKind::kGpu;
  if (kind == "npu") device.kind = engine::DeviceKind::kNpu;
  device.driver_name = members.Text("driver_name");
  device.driver_version = members.Text("driver_version");
  device.device_name = members.Text("device_name");
  device.memory_bytes = static_cast<uint64_t>(members.Real("memory_bytes"));
  if (!members.complete()) return std::nullopt;
  return device;
}

// The last line of what a child printed, which a driver may have printed before.
std::string_view LastLine(std::string_view out) {
  while (out.ends_with('\n')) out.remove_suffix(1);
  const size_t begin = out.rfind('\n');
  return begin == std::string_view::npos ? out : out.substr(begin + 1);
}

struct ChildAnswer {
  json::value value;                   // where it ended as it should
  Finding finding = Finding::kPassed;  // how it did not
  std::string reason;
  std::optional<std::string> error_code;  // the driver refused

  bool ended_well() const { return reason.empty(); }
};

ChildAnswer Understand(const os::ChildOutcome& outcome, const os::ChildOptions& options) {
  ChildAnswer answer;
  const bool out_of_memory = options.data_limit_bytes > 0 &&
                             static_cast<double>(outcome.peak_resident_bytes) >=
                                 kMemoryShare * static_cast<double>(options.data_limit_bytes);
  const auto memory = [&] {
    answer.finding = Finding::kOutOfMemory;
    answer.reason = fmt::format("it took {} bytes; a self-test may take {}",
                                outcome.peak_resident_bytes, options.data_limit_bytes);
  };
  if (outcome.end == End::kTimedOut) {
    answer.finding = Finding::kHung;
    answer.reason = fmt::format("it did not end within {} s",
                                static_cast<double>(options.timeout.count()) / 1e3);
    return answer;
  }
  if (outcome.end == End::kSignalled || outcome.code != 0) {
    if (out_of_memory) {
      memory();
      return answer;
    }
    answer.finding = Finding::kCrashed;
    answer.reason = outcome.end == End::kSignalled
                        ? fmt::format("it ended with signal {} ({})", outcome.code,
                                      sigabbrev_np(outcome.code) ? sigabbrev_np(outcome.code) : "?")
                        : fmt::format("it ended the process with status {}", outcome.code);
    return answer;
  }
  const std::string_view line = LastLine(outcome.out);
  boost::system::error_code wrong;
  answer.value = json::parse({line.data(), line.size()}, wrong);
  if (wrong) {
    answer.finding = Finding::kCrashed;
    answer.reason = "it ended without an answer";
    return answer;
  }
  const json::object* object = answer.value.if_object();
  const json::value* error = object != nullptr ? object->if_contains("error") : nullptr;
  if (error == nullptr) return answer;
  Members members(*error);
  answer.error_code = members.Text("code");
  answer.reason = members.Text("message");
  if (answer.reason.empty()) answer.reason = "no reason";
  if (*answer.error_code == ErrorCodeName(ErrorCode::kResourceExhausted)) {
    answer.finding = Finding::kOutOfMemory;
  } else if (out_of_memory) {
    memory();
  } else if (*answer.error_code == ErrorCodeName(ErrorCode::kUnavailable)) {
    answer.finding = Finding::kContextFailed;
  } else {
    answer.finding = Finding::kUnsupported;
  }
  return answer;
}

Result<std::string> FileDigest(const std::filesystem::path& file) {
  TANDEM_ASSIGN_OR_RETURN(const auto mapped, os::MappedFile::Open(file));
  crypto::Sha256 digest;
  digest.Update(mapped.bytes());
  return crypto::Hex(digest.Finish());
}

std::string SystemRelease() {
  utsname name{};
  if (uname(&name) != 0) return {};
  return fmt::format("{} {} {}", name.sysname, name.release, name.version);
}

}  // namespace

std::string ProbeDriverJson(const std::filesystem::path& driver) {
  const auto device = engine::ProbeAccelerator(driver);
  return device ? json::serialize(DeviceJson(*device)) : ErrorJson(device.error());
}

std::string CheckDriverJson(const std::filesystem::path& driver,
                            const std::filesystem::path& package, const Clock& clock) {
  const auto check = engine::CheckAccelerator(driver, package, clock);
  if (!check) return ErrorJson(check.error());
  return json::serialize(
      json::object{{"device", DeviceJson(check->device)},
                   {"finite", check->finite},
                   {"relative_error", check->relative_error},
                   {"error_bound", check->error_bound},
                   {"fast", check->fast()},
                   {"prefill_tokens_per_second", check->prefill_tokens_per_second},
                   {"decode_tokens_per_second", check->decode_tokens_per_second},
                   {"cpu_prefill_tokens_per_second", check->cpu_prefill_tokens_per_second},
                   {"cpu_decode_tokens_per_second", check->cpu_decode_tokens_per_second}});
}

std::string ResetDriverJson(const std::filesystem::path& driver) {
  const Status reset = engine::ResetAccelerator(driver);
  return reset ? json::serialize(json::object{{"status", "reset"}}) : ErrorJson(reset.error());
}

Result<std::unique_ptr<Accelerators>> Accelerators::Open(AcceleratorsOptions options,
                                                         const Clock* clock) {
  if (options.program.empty()) {
    TANDEM_ASSIGN_OR_RETURN(options.program, os::OwnProgram());
  }
  if (options.check_data_limit_bytes == 0) {
    TANDEM_ASSIGN_OR_RETURN(const os::MemoryStatus memory, os::ReadMemoryStatus());
    options.check_data_limit_bytes = memory.limit_bytes / 2;
  }
  const int64_t now_s =
      std::chrono::duration_cast<std::chrono::seconds>(clock->SystemNow().time_since_epoch())
          .count();
  TANDEM_ASSIGN_OR_RETURN(auto verdicts,
                          fleet::Verdicts::Open(options.data_dir / "executors", now_s));
  return std::unique_ptr<Accelerators>(
      new Accelerators(std::move(options), clock, std::move(verdicts)));
}

int64_t Accelerators::NowSeconds() const {
  return std::chrono::duration_cast<std::chrono::seconds>(clock_->SystemNow().time_since_epoch())
      .count();
}

std::vector<std::filesystem::path> Accelerators::Drivers() const {
  std::vector<std::filesystem::path> drivers = options_.drivers;
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(options_.data_dir / "drivers", error)) {
    if (entry.path().extension() == ".so") found.push_back(entry.path());
  }
  std::ranges::sort(found);
  drivers.insert(drivers.end(), found.begin(), found.end());
  return drivers;
}

Accelerators::Found Accelerators::ProbeOne(const std::filesystem::path& driver) const {
  Found found{.driver = driver, .device = {}, .problem = {}};
  const os::ChildOptions options{
      .argv = {options_.program.string(), "driver", "probe", driver.string()},
      .timeout = options_.probe_timeout};
  const auto outcome = os::RunChild(options);
  if (!outcome) {
    found.problem = outcome.error().message;
    return found;
  }
  const ChildAnswer answer = Understand(*outcome, options);
  if (!answer.ended_well()) {
    found.problem = answer.reason;
    return found;
  }
  found.device = ReadDevice(answer.value);
  if (!found.device) found.problem = "its answer is not complete";
  return found;
}

std::vector<Accelerators::Found> Accelerators::Probe() const {
  std::vector<Found> found;
  for (const std::filesystem::path& driver : Drivers()) found.push_back(ProbeOne(driver));
  return found;
}

Result<fleet::VerdictKey> Accelerators::KeyOf(const Found& accelerator,
                                              const std::filesystem::path& package) const {
  fleet::VerdictKey key{.system = SystemRelease()};
  if (accelerator.device) {
    key.device = accelerator.device->device_name;
    key.driver_version = accelerator.device->driver_version;
  }
  TANDEM_ASSIGN_OR_RETURN(key.driver_digest, FileDigest(accelerator.driver));
  TANDEM_ASSIGN_OR_RETURN(key.package_digest, engine::PackageDigest(package));
  return key;
}

fleet::Verdict Accelerators::Test(const std::filesystem::path& driver,
                                  const std::filesystem::path& package) const {
  fleet::Verdict verdict{.key = {}, .driver = driver.string()};
  const os::ChildOptions options{
      .argv = {options_.program.string(), "driver", "check", driver.string(), package.string()},
      .timeout = options_.check_timeout,
      .data_limit_bytes = options_.check_data_limit_bytes};
  const auto outcome = os::RunChild(options);
  if (!outcome) {
    verdict.finding = Finding::kContextFailed;  // nothing about the driver: it is asked again
    verdict.reason = outcome.error().message;
    return verdict;
  }
  const ChildAnswer answer = Understand(*outcome, options);
  if (!answer.ended_well()) {
    verdict.finding = answer.finding;
    verdict.reason = answer.reason;
    return verdict;
  }
  Members members(answer.value);
  const bool finite = members.Bool("finite");
  const bool fast = members.Bool("fast");
  verdict.relative_error = members.Real("relative_error");
  verdict.error_bound = members.Real("error_bound");
  verdict.decode_tokens_per_second = members.Real("decode_tokens_per_second");
  verdict.cpu_decode_tokens_per_second = members.Real("cpu_decode_tokens_per_second");
  if (!members.complete()) {
    verdict.finding = Finding::kCrashed;
    verdict.reason = "its answer is not complete";
  } else if (!finite) {
    verdict.finding = Finding::kNotFinite;
    verdict.reason = "its logits are not numbers, or not as many as the model has";
  } else if (verdict.relative_error > verdict.error_bound) {
    verdict.finding = Finding::kWrong;
    verdict.reason = fmt::format(
        "its logits differ from the known answers by {:.1f} %; {:.1f} % "
        "are explained by rounding",
        100 * verdict.relative_error, 100 * verdict.error_bound);
  } else if (!fast) {
    verdict.finding = Finding::kSlow;
    verdict.reason =
        fmt::format("it decodes {:.1f} tokens a second, the cores {:.1f}",
                    verdict.decode_tokens_per_second, verdict.cpu_decode_tokens_per_second);
  } else {
    verdict.reason = fmt::format(
        "it gives the known answers within {:.1f} % and decodes {:.1f} "
        "tokens a second, the cores {:.1f}",
        100 * verdict.relative_error, verdict.decode_tokens_per_second,
        verdict.cpu_decode_tokens_per_second);
  }
  return verdict;
}

Result<fleet::Verdict> Accelerators::Check(const Found& accelerator,
                                           const std::filesystem::path& package) {
  TANDEM_ASSIGN_OR_RETURN(fleet::VerdictKey key, KeyOf(accelerator, package));
  if (auto known = verdicts_->Find(key)) return *std::move(known);
  log::Info("self-test of {} with {}", accelerator.driver.string(), package.filename().string());
  fleet::Verdict verdict = Test(accelerator.driver, package);
  verdict.key = std::move(key);
  verdict.at_s = NowSeconds();
  log::Info("{}: {}: {}", accelerator.driver.filename().string(),
            fleet::FindingName(verdict.finding), verdict.reason);
  if (verdict.finding != Finding::kContextFailed) {
    TANDEM_RETURN_IF_ERROR(verdicts_->Put(verdict));
  }
  return verdict;
}

Status Accelerators::Reset(const std::filesystem::path& driver) {
  const os::ChildOptions options{
      .argv = {options_.program.string(), "driver", "reset", driver.string()},
      .timeout = options_.probe_timeout};
  TANDEM_ASSIGN_OR_RETURN(const os::ChildOutcome outcome, os::RunChild(options));
  const ChildAnswer answer = Understand(outcome, options);
  if (!answer.ended_well()) {
    return Err(ErrorCode::kUnavailable, "{} could not be reset: {}", driver.filename().string(),
               answer.reason);
  }
  TANDEM_RETURN_IF_ERROR(verdicts_->Forget(driver));
  return {};
}

Result<fleet::Verdicts::Use> Accelerators::BeginUse(const Found& accelerator,
                                                    const std::filesystem::path& package) {
  TANDEM_ASSIGN_OR_RETURN(const fleet::VerdictKey key, KeyOf(accelerator, package));
  return verdicts_->BeginUse(key, accelerator.driver);
}

}  // namespace tandem::app
