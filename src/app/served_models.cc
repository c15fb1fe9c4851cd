#include "app/served_models.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "app/local_provider.h"
#include "base/log.h"
#include "base/utf8.h"
#include "os/memory.h"
#include "os/power.h"

namespace tandem::app {
namespace {

gateway::Failure NotFound(std::string_view name) {
  constexpr size_t kMaxQuotedBytes = 64;  // a name can be as long as a body
  return {gateway::FailureCode::kModelNotFound,
          fmt::format("there is no model '{}{}'; GET /v1/models lists what there is",
                      utf8::Sanitize(name.substr(0, kMaxQuotedBytes)),
                      name.size() > kMaxQuotedBytes ? "..." : ""),
          "model"};
}

gateway::Failure ToFailure(Error error, std::string_view name) {
  switch (error.code) {
    case ErrorCode::kFailedPrecondition:
      return {gateway::FailureCode::kModelNotInstalled, std::move(error.message), "model"};
    case ErrorCode::kNotFound:
    case ErrorCode::kInvalidArgument:  // no name of a model looks like that
      return NotFound(name);
    default:
      return gateway::FailureFromError(std::move(error));
  }
}

// Phones call a model small when it fits beside an app; the figure is the wire contract's smaller
// package with some room.
gateway::Tier TierOf(const std::filesystem::path& path) {
  constexpr uintmax_t kSmallBytes = 3'000'000'000;
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  return !error && size > kSmallBytes ? gateway::Tier::kDeviceLarge : gateway::Tier::kDeviceSmall;
}

}  // namespace

// What one configuration says.
struct ServedModels::Configured {
  struct Upstream {
    gateway::upstream::UpstreamOptions options;
    std::shared_ptr<gateway::upstream::UpstreamProvider> provider;
  };
  std::vector<Alias> aliases;
  std::map<std::string, Upstream, std::less<>> upstreams;  // by model
  std::map<std::string, std::string, std::less<>> disabled;
  std::map<std::string, std::string, std::less<>> bound;
};

Result<std::unique_ptr<ServedModels>> ServedModels::Create(
    const fleet::Fleet* fleet, EnginePool* pool, net::HttpClient* client, const Clock* clock,
    const ServedModelsOptions& options, const engine::EngineOptions& engine,
    fleet::Deployments* deployments) {
  auto models = std::unique_ptr<ServedModels>(
      new ServedModels(fleet, pool, client, clock, engine, deployments));
  TANDEM_ASSIGN_OR_RETURN(models->configured_, models->Prepare(options));
  return models;
}

void ServedModels::Adopt(std::shared_ptr<const Configured> configured) {
  std::lock_guard lock(mutex_);
  configured_ = std::move(configured);
  locals_.clear();  // an alias may be another model now
}

Result<std::shared_ptr<const ServedModels::Configured>> ServedModels::Prepare(
    const ServedModelsOptions& options) const {
  auto next = std::make_shared<Configured>();
  next->aliases = options.aliases;
  next->disabled = options.disabled;
  next->bound = options.bound;
  for (const auto& upstream : options.upstreams) {
    TANDEM_RETURN_IF_ERROR(gateway::upstream::Validate(upstream));
    if (fleet_->Resolve(upstream.model)) {
      return Err(ErrorCode::kInvalidArgument,
                 "--upstream {0}={1}: '{0}' is installed here; give the upstream another name",
                 upstream.model, upstream.base_url);
    }
    auto provider =
        std::make_shared<gateway::upstream::UpstreamProvider>(upstream, client_, clock_);
    if (!next->upstreams
             .emplace(upstream.model, Configured::Upstream{upstream, std::move(provider)})
             .second) {
      return Err(ErrorCode::kInvalidArgument, "--upstream {}: there are two of that name",
                 upstream.model);
    }
  }
  for (const Alias& alias : options.aliases) {
    if (alias.name.empty() || alias.name == alias.model) {
      return Err(ErrorCode::kInvalidArgument,
                 "--alias {}={}: write NAME=MODEL, two different names", alias.name, alias.model);
    }
    if (fleet_->Resolve(alias.name) || next->upstreams.contains(alias.name)) {
      return Err(ErrorCode::kInvalidArgument,
                 "--alias {}={}: '{}' is served here and would be hidden; use another name",
                 alias.name, alias.model, alias.name);
    }
    if (next->upstreams.contains(alias.model)) continue;
    if (auto target = fleet_->Resolve(alias.model); !target) {
      return Wrap(std::move(target).error(), fmt::format("--alias {}={}", alias.name, alias.model));
    }
  }
  return next;
}

std::shared_ptr<const ServedModels::Configured> ServedModels::configured() const {
  std::lock_guard lock(mutex_);
  return configured_;
}

const Alias* ServedModels::FindAlias(const Configured& configured, std::string_view name) {
  const auto found = std::ranges::find(configured.aliases, name, &Alias::name);
  return found == configured.aliases.end() ? nullptr : &*found;
}

void ServedModels::Recheck() {
  std::lock_guard lock(mutex_);
  locals_.clear();
}

std::filesystem::path ServedModels::FileOf(const fleet::ResolvedModel& resolved) {
  if (deployments_ == nullptr) return resolved.path;
  // Another process may have deployed or rolled back.
  if (const Status read = deployments_->Refresh(); !read) log::Error("{}", read.error().message);
  const auto current = deployments_->Current(resolved.name);
  std::string before;
  {
    std::lock_guard lock(mutex_);
    before = std::exchange(deployed_[resolved.name], current ? current->id : std::string());
  }
  std::error_code error;
  if (!current || !std::filesystem::exists(current->package, error)) return resolved.path;
  // The same package may run on another executor now.
  if (current->id != before) pool_->Retire(current->package);
  return current->package;
}

ServedModels::Local ServedModels::FindLocal(const std::string& model) {
  const SteadyTime now = clock_->Now();
  {
    std::lock_guard lock(mutex_);
    const auto known = locals_.find(model);
    if (known != locals_.end() && now - known->second.checked < kRecheck) return known->second;
  }
  // Without the lock: this reads the disk.
  auto resolved = fleet_->Resolve(model);
  Local local;
  local.checked = now;
  if (!resolved) {
    local.error = std::move(resolved).error();
  } else {
    const std::filesystem::path file = FileOf(*resolved);
    std::unique_lock lock(mutex_);
    const auto known = by_path_.find(file);
    if (known != by_path_.end()) {
      local = known->second;
    } else {
      lock.unlock();
      local.name = resolved->name;
      local.path = file;
      local.tier = TierOf(file);
      if (const auto plan = engine::PlanMemory(file, engine_)) {
        local.planned_bytes = plan->total_bytes();
        local.context_tokens = plan->context_tokens;
      }
      local.provider = std::make_shared<LocalProvider>(local.name, local.tier, local.path, pool_);
      lock.lock();
      local = by_path_.emplace(local.path, local).first->second;
    }
    local.checked = now;
  }
  std::lock_guard lock(mutex_);
  constexpr size_t kMaxRemembered = 256;  // clients choose the names
  if (locals_.size() >= kMaxRemembered) locals_.clear();
  locals_[model] = local;
  return local;
}

ServedModels::Found ServedModels::Find(const gateway::Target& target) {
  const std::shared_ptr<const Configured> configured = this->configured();
  const auto bound = configured->bound.find(target.model);
  const std::string& wanted = bound == configured->bound.end() ? target.model : bound->second;
  const Alias* const alias = FindAlias(*configured, wanted);
  const std::string& model = alias ? alias->model : wanted;
  Found found;
  if (const auto upstream = configured->upstreams.find(model);
      upstream != configured->upstreams.end()) {
    found.provider = upstream->second.provider;
    found.continues = upstream->second.provider->continues();
    return found;
  }
  if (target.tier == gateway::Tier::kCloud) {
    found.state.enabled = false;
    const auto disabled = configured->disabled.find(model);
    found.state.remedy = disabled != configured->disabled.end()
                             ? disabled->second
                             : fmt::format(
                                   "no upstream is configured for '{}'; add one to the "
                                   "configuration or with --upstream "
                                   "{}=BASE_URL, and set its key",
                                   target.model, target.model);
    return found;
  }
  const Local local = FindLocal(model);
  if (local.provider == nullptr) {
    found.state.installed = false;
    found.state.remedy = local.error.message;
    return found;
  }
  found.provider = local.provider;
  found.continues = true;
  const EnginePool::ModelFigures figures = pool_->Figures(local.path);
  if (!figures.loaded) {
    found.state.memory_wanted_bytes = local.planned_bytes;
    found.state.memory_free_bytes = figures.obtainable_bytes;
  }
  found.state.queue_full = figures.activity.n_queued >= engine_.max_queued;
  return found;
}

std::expected<gateway::Target, gateway::Failure> ServedModels::Resolve(std::string_view name) {
  const std::shared_ptr<const Configured> configured = this->configured();
  const Alias* alias = FindAlias(*configured, name);
  const std::string model(alias ? std::string_view(alias->model) : name);
  gateway::Target target{.id = std::string(name), .model = model};
  if (configured->upstreams.contains(model)) return target;
  // A path names a file of this machine, which is nothing that a client may ask for.
  if (alias == nullptr &&
      (name.find('/') != std::string_view::npos && !name.starts_with("hf.co/"))) {
    return std::unexpected(NotFound(name));
  }
  Local local = FindLocal(model);
  if (local.provider == nullptr) return std::unexpected(ToFailure(std::move(local.error), name));
  target.tier = local.tier;
  return target;
}

gateway::DeviceState ServedModels::ReadDevice() {
  const SteadyTime now = clock_->Now();
  {
    std::lock_guard lock(mutex_);
    if (power_ && now - power_checked_ < kRecheck) return *power_;
  }
  const os::PowerStatus power = os::ReadPowerStatus();
  std::lock_guard lock(mutex_);
  power_ = {.battery_share = power.battery_share, .hot = power.hot};
  power_checked_ = now;
  return *power_;
}

std::vector<ServedModels::Model> ServedModels::List() {
  std::vector<Model> models;
  const auto installed = fleet_->List();
  if (!installed) {
    log::Error("listing models: {}", installed.error().message);
    return models;
  }
  for (const fleet::ModelInfo& model : *installed) {
    if (model.complete) models.push_back({.id = model.name, .created = model.installed_at_s});
  }
  const std::shared_ptr<const Configured> configured = this->configured();
  for (const auto& [name, upstream] : configured->upstreams) {
    models.push_back({.id = name, .owned_by = "upstream"});
  }
  for (const Alias& alias : configured->aliases) models.push_back({.id = alias.name});
  return models;
}

Result<ServedModels::Memory> ServedModels::ReadMemory() {
  TANDEM_ASSIGN_OR_RETURN(const os::MemoryStatus status, os::ReadMemoryStatus());
  const engine::MemoryFigures engines = pool_->memory();
  return Memory{.available_bytes = status.available_bytes,
                .total_bytes = status.total_bytes,
                .limit_bytes = engines.limit_bytes,
                .weights_bytes = engines.weights_bytes,
                .kv_cache_bytes = engines.kv_cache_bytes};
}

}  // namespace tandem::app
