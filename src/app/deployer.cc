#include "app/deployer.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "app/byte_size.h"
#include "app/models.h"
#include "base/log.h"
#include "crypto/random.h"
#include "engine/packing.h"
#include "os/file.h"
#include "os/memory.h"

namespace tandem::app {
namespace {

using fleet::Finding;

// An NPU before a GPU before anything else.
int Rank(const Accelerators::Found& found) {
  if (!found.device) return 3;
  switch (found.device->kind) {
    case engine::DeviceKind::kNpu:
      return 0;
    case engine::DeviceKind::kGpu:
      return 1;
    case engine::DeviceKind::kOther:
      return 2;
  }
  return 2;
}

Status ToStatus(const fleet::Verdict& verdict) {
  if (verdict.finding == Finding::kPassed) return {};
  // Only what may pass is tried again.
  const ErrorCode code = verdict.finding == Finding::kContextFailed ? ErrorCode::kUnavailable
                                                                    : ErrorCode::kUnsupported;
  return Err(code, "{}: {}", fleet::FindingName(verdict.finding), verdict.reason);
}

Result<uint64_t> LimitBytes(uint64_t asked_bytes, uint64_t server_bytes) {
  uint64_t limit = server_bytes;
  if (limit == 0) {
    TANDEM_ASSIGN_OR_RETURN(const os::MemoryStatus machine, os::ReadMemoryStatus());
    limit = machine.limit_bytes;
  }
  return asked_bytes == 0 ? limit : std::min(limit, asked_bytes);
}

}  // namespace

int64_t Deployer::NowSeconds() const {
  return std::chrono::duration_cast<std::chrono::seconds>(
             parts_.clock->SystemNow().time_since_epoch())
      .count();
}

Deployer::Choice Deployer::ChooseAccelerator(const std::filesystem::path& package) {
  std::vector<Accelerators::Found> found = parts_.accelerators->Probe();
  std::ranges::sort(found, {}, [](const auto& one) { return std::pair(Rank(one), one.driver); });
  Choice choice;
  std::string reasons;
  const auto add = [&](const std::filesystem::path& driver, std::string_view reason) {
    reasons +=
        fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", driver.filename().string(), reason);
  };
  for (const Accelerators::Found& accelerator : found) {
    if (!accelerator.device) {
      add(accelerator.driver, accelerator.problem);
      continue;
    }
    std::string passed;
    const fleet::LadderOutcome outcome = fleet::ClimbLadder(
        {}, {.try_accelerator = [&]() -> Status {
               TANDEM_ASSIGN_OR_RETURN(const fleet::Verdict verdict,
                                       parts_.accelerators->Check(accelerator, package));
               passed = verdict.reason;
               return ToStatus(verdict);
             },
             .reset = [&] { return parts_.accelerators->Reset(accelerator.driver); },
             .wait = parts_.wait,
             .random = parts_.random});
    choice.attempts += outcome.attempts;
    if (outcome.accelerated) {
      choice.driver = accelerator.driver;
      choice.executor = engine::DeviceKindName(accelerator.device->kind);
      choice.reason = std::move(passed);
      return choice;
    }
    add(accelerator.driver, outcome.last_error.message);
  }
  choice.reason = found.empty() ? "this machine has no driver of an accelerator" : reasons;
  return choice;
}

// A second name for the same bytes where the file system has that, a copy elsewhere.
Result<std::filesystem::path> Deployer::Keep(const std::filesystem::path& package,
                                             const std::string& digest) const {
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(directory_));
  std::filesystem::path kept = directory_ / (digest + ".tandem");
  std::error_code error;
  if (std::filesystem::exists(kept, error)) return kept;
  std::filesystem::create_hard_link(package, kept, error);
  if (!error || error == std::errc::file_exists) return kept;
  const std::filesystem::path partial = kept.string() + ".partial";
  if (!std::filesystem::copy_file(package, partial,
                                  std::filesystem::copy_options::overwrite_existing, error)) {
    return ErrnoError(error.value(), partial.string());
  }
  std::filesystem::rename(partial, kept, error);
  if (error) return ErrnoError(error.value(), kept.string());
  return kept;
}

void Deployer::RemoveUnused() const {
  std::set<std::filesystem::path> used;
  for (const fleet::Deployment& current : parts_.deployments->List()) {
    used.insert(current.package);
    if (const auto previous = parts_.deployments->Previous(current.model)) {
      used.insert(previous->package);
    }
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    if (entry.path().extension() != ".lock" && !used.contains(entry.path())) {
      std::error_code ignored;
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

Result<fleet::Deployment> Deployer::Deploy(const DeployRequest& request,
                                           const PackProgressFn& progress,
                                           const std::stop_token& stop) {
  TANDEM_ASSIGN_OR_RETURN(const fleet::ResolvedModel model, parts_.fleet->Resolve(request.model));
  TANDEM_ASSIGN_OR_RETURN(const std::filesystem::path package,
                          parts_.packages->Get(model.path, progress, stop));
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(directory_));
  TANDEM_ASSIGN_OR_RETURN(const auto lock, os::FileLock::Acquire(directory_ / "deploy.lock"));
  TANDEM_RETURN_IF_ERROR(engine::VerifyPackage(package, progress, stop));

  fleet::Deployment deployment{.id = fmt::format("dep-{:016x}", crypto::RandomUint64()),
                               .model = model.name,
                               .device_id = request.device_id,
                               .memory_limit_bytes = request.memory_limit_bytes,
                               .deployed_at_s = NowSeconds()};
  TANDEM_ASSIGN_OR_RETURN(deployment.package_digest, engine::PackageDigest(package));
  TANDEM_ASSIGN_OR_RETURN(const uint64_t limit_bytes,
                          LimitBytes(request.memory_limit_bytes, engine_.memory_limit_bytes));

  Choice choice;
  if (request.accelerator) {
    choice = ChooseAccelerator(package);
    if (choice.driver.empty() && !request.software_fallback) {
      return std::unexpected(
          Error{.code = ErrorCode::kUnavailable,
                .message = fmt::format("{} cannot run on an accelerator after {} attempts: {}",
                                       model.name, choice.attempts, choice.reason),
                .param = "accelerator"});
    }
    deployment.software_fallback = choice.driver.empty();
  } else {
    choice.reason = "no accelerator was asked for";
  }
  engine::EngineOptions engine = engine_;
  if (deployment.software_fallback) {
    engine.max_sessions = fleet::ReducedBatchSize(engine.max_sessions);
  }
  engine.memory_limit_bytes = limit_bytes;
  TANDEM_ASSIGN_OR_RETURN(const engine::MemoryPlan plan, engine::PlanMemory(package, engine));
  if (!plan.fits()) {
    return std::unexpected(Error{
        .code = ErrorCode::kResourceExhausted,
        .message =
            fmt::format("{} wants {} bytes (weights {}, a KV cache of {} tokens {}, scratch "
                        "{}) and {} are available; raise the limit or configure a smaller "
                        "context",
                        model.name, plan.total_bytes(), plan.weights_bytes, plan.context_tokens,
                        plan.kv_cache_bytes, plan.scratch_bytes, limit_bytes),
        .param = "memory"});
  }
  deployment.executor = choice.executor;
  deployment.driver = choice.driver.string();
  deployment.attempts = choice.attempts;
  deployment.reason = std::move(choice.reason);
  deployment.batch_size = engine.max_sessions;
  deployment.memory_bytes = plan.total_bytes();
  TANDEM_ASSIGN_OR_RETURN(const std::filesystem::path kept,
                          Keep(package, deployment.package_digest));
  deployment.package = kept.string();
  TANDEM_RETURN_IF_ERROR(parts_.deployments->Activate(deployment));
  RemoveUnused();
  if (parts_.changed) parts_.changed();
  log::Info("deployed {} as {} on {}: {}", deployment.model, deployment.id, deployment.executor,
            deployment.reason);
  return deployment;
}

Result<fleet::Deployment> Deployer::RollBack(const std::string& name) {
  std::string model = name;
  // An alias stands for the model's own name, where that is still installed.
  if (const auto resolved = parts_.fleet->Resolve(name)) model = resolved->name;
  if (const auto previous = parts_.deployments->Previous(model)) {
    std::error_code error;
    if (!std::filesystem::exists(previous->package, error)) {
      return Err(ErrorCode::kNotFound, "the package of the deployment before, {}, is gone",
                 previous->package);
    }
  }
  TANDEM_ASSIGN_OR_RETURN(fleet::Deployment back,
                          parts_.deployments->RollBack(model, NowSeconds()));
  if (parts_.changed) parts_.changed();
  log::Info("rolled {} back to {} on {}", back.model, back.id, back.executor);
  return back;
}

Result<int> Deployer::ResetAccelerators() {
  int n = 0;
  for (const Accelerators::Found& accelerator : parts_.accelerators->Probe()) {
    TANDEM_RETURN_IF_ERROR(parts_.accelerators->Reset(accelerator.driver));
    ++n;
  }
  return n;
}

EnginePool::Loader DeploymentLoader(const Packages* packages, fleet::Deployments* deployments,
                                    Accelerators* accelerators) {
  return [=, load = PackingLoader(packages)](
             const std::filesystem::path& path,
             const engine::EngineOptions& wanted) -> Result<std::unique_ptr<engine::Engine>> {
    const auto deployment = deployments->OfPackage(path);
    if (!deployment) return load(path, wanted);
    engine::EngineOptions options = wanted;
    if (deployment->memory_limit_bytes > 0) {
      options.memory_limit_bytes =
          options.memory_limit_bytes == 0
              ? deployment->memory_limit_bytes
              : std::min(options.memory_limit_bytes, deployment->memory_limit_bytes);
    }
    if (deployment->batch_size > 0) options.max_sessions = deployment->batch_size;
    if (deployment->driver.empty()) return load(path, options);

    const auto on_accelerator = [&]() -> Result<std::unique_ptr<engine::Engine>> {
      const auto found = accelerators->ProbeOne(deployment->driver);
      if (!found.device) return Err(ErrorCode::kUnavailable, "{}", found.problem);
      TANDEM_ASSIGN_OR_RETURN(const fleet::Verdict verdict, accelerators->Check(found, path));
      TANDEM_RETURN_IF_ERROR(ToStatus(verdict));
      TANDEM_ASSIGN_OR_RETURN(auto use, accelerators->BeginUse(found, path));
      engine::EngineOptions accelerated = options;
      accelerated.driver = deployment->driver;
      accelerated.kept = std::make_shared<fleet::Verdicts::Use>(std::move(use));
      return engine::Engine::Load(path, accelerated);
    };
    auto engine = on_accelerator();
    if (engine) return engine;
    log::Warning("{} runs on the cores: {}: {}", deployment->model,
                 std::filesystem::path(deployment->driver).filename().string(),
                 engine.error().message);
    options.max_sessions = fleet::ReducedBatchSize(options.max_sessions);
    return load(path, options);
  };
}

}  // namespace tandem::app
