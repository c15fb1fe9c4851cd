#include "app/served_models.h"

#include <algorithm>
#include <utility>

#include "app/local_provider.h"
#include "base/log.h"
#include "base/utf8.h"
#include "os/memory.h"

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

Result<std::unique_ptr<ServedModels>> ServedModels::Create(const fleet::Fleet* fleet,
                                                           EnginePool* pool,
                                                           net::HttpClient* client,
                                                           const Clock* clock,
                                                           const ServedModelsOptions& options) {
  auto models = std::unique_ptr<ServedModels>(new ServedModels(fleet, pool, options.aliases));
  for (const auto& upstream : options.upstreams) {
    TANDEM_RETURN_IF_ERROR(gateway::upstream::Validate(upstream));
    if (fleet->Resolve(upstream.model)) {
      return Err(ErrorCode::kInvalidArgument,
                 "--upstream {0}={1}: '{0}' is installed here; give the upstream another name",
                 upstream.model, upstream.base_url);
    }
    const bool added =
        models->upstreams_
            .emplace(upstream.model,
                     std::make_shared<gateway::upstream::UpstreamProvider>(upstream, client, clock))
            .second;
    if (!added) {
      return Err(ErrorCode::kInvalidArgument, "--upstream {}: there are two of that name",
                 upstream.model);
    }
  }
  for (const Alias& alias : options.aliases) {
    if (alias.name.empty() || alias.name == alias.model) {
      return Err(ErrorCode::kInvalidArgument,
                 "--alias {}={}: write NAME=MODEL, two different names", alias.name, alias.model);
    }
    if (fleet->Resolve(alias.name) || models->upstreams_.contains(alias.name)) {
      return Err(ErrorCode::kInvalidArgument,
                 "--alias {}={}: '{}' is served here and would be hidden; use another name",
                 alias.name, alias.model, alias.name);
    }
    if (models->upstreams_.contains(alias.model)) continue;
    if (auto target = fleet->Resolve(alias.model); !target) {
      return Wrap(std::move(target).error(), fmt::format("--alias {}={}", alias.name, alias.model));
    }
  }
  return models;
}

const Alias* ServedModels::FindAlias(std::string_view name) const {
  const auto found = std::ranges::find(aliases_, name, &Alias::name);
  return found == aliases_.end() ? nullptr : &*found;
}

std::expected<ServedModels::Resolution, gateway::Failure> ServedModels::Resolve(
    std::string_view name) {
  const Alias* alias = FindAlias(name);
  const std::string_view model = alias ? std::string_view(alias->model) : name;
  const char* const reason = alias ? "alias" : "requested_model";
  if (const auto upstream = upstreams_.find(model); upstream != upstreams_.end()) {
    return Resolution{upstream->second, reason};
  }
  // A path names a file of this machine, which is nothing that a client may ask for.
  if (alias == nullptr &&
      (name.find('/') != std::string_view::npos && !name.starts_with("hf.co/"))) {
    return std::unexpected(NotFound(name));
  }
  auto resolved = fleet_->Resolve(model);
  if (!resolved) return std::unexpected(ToFailure(std::move(resolved).error(), name));
  std::lock_guard lock(mutex_);
  auto& provider = providers_[resolved->path];
  if (!provider) {
    provider = std::make_shared<LocalProvider>(resolved->name, TierOf(resolved->path),
                                               resolved->path, pool_);
  }
  return Resolution{provider, reason};
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
  for (const auto& [name, provider] : upstreams_) {
    models.push_back({.id = name, .owned_by = "upstream"});
  }
  for (const Alias& alias : aliases_) models.push_back({.id = alias.name});
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
