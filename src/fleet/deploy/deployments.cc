#include "fleet/deploy/deployments.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <boost/json.hpp>

#include "fleet/json/fields.h"
#include "os/file.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr int kFormat = 1;
constexpr size_t kMaxFileBytes = size_t{4} << 20;

json::object ToJson(const Deployment& deployment) {
  return {{"id", deployment.id},
          {"model", deployment.model},
          {"package", deployment.package},
          {"package_digest", deployment.package_digest},
          {"executor", deployment.executor},
          {"driver", deployment.driver},
          {"device_id", deployment.device_id},
          {"software_fallback", deployment.software_fallback},
          {"batch_size", deployment.batch_size},
          {"attempts", deployment.attempts},
          {"memory_bytes", deployment.memory_bytes},
          {"memory_limit_bytes", deployment.memory_limit_bytes},
          {"reason", deployment.reason},
          {"deployed_at_s", deployment.deployed_at_s}};
}

Result<Deployment> ReadDeployment(const json::value& value, const std::string& where) {
  constexpr int32_t kMany = std::numeric_limits<int32_t>::max();
  JsonFields fields(value, where);
  Deployment deployment;
  deployment.id = fields.Text("id", JsonFields::kRequired);
  deployment.model = fields.Text("model", JsonFields::kRequired);
  deployment.package = fields.Text("package", JsonFields::kRequired);
  deployment.package_digest = fields.Text("package_digest");
  deployment.executor = fields.Text("executor", JsonFields::kRequired);
  deployment.driver = fields.Text("driver");
  deployment.device_id = fields.Text("device_id");
  deployment.software_fallback = fields.Bool("software_fallback").value_or(false);
  deployment.batch_size = fields.Count("batch_size", kMany);
  deployment.attempts = fields.Count("attempts", kMany);
  deployment.memory_bytes = fields.Number("memory_bytes").value_or(0);
  deployment.memory_limit_bytes = fields.Number("memory_limit_bytes").value_or(0);
  deployment.reason = fields.Text("reason");
  deployment.deployed_at_s = static_cast<int64_t>(fields.Number("deployed_at_s").value_or(0));
  if (deployment.executor != "cpu" && deployment.driver.empty()) {
    fields.Fail("driver", "is missing for an accelerator");
  }
  TANDEM_RETURN_IF_ERROR(fields.Done());
  return deployment;
}

bool SamePlace(const Deployment& a, const Deployment& b) {
  return a.package == b.package && a.driver == b.driver && a.batch_size == b.batch_size &&
         a.memory_limit_bytes == b.memory_limit_bytes;
}

std::unexpected<Error> NeverDeployed(std::string_view model) {
  return Err(ErrorCode::kNotFound, "'{}' was never deployed; 'tandem deploy {}' does that", model,
             model);
}

}  // namespace

Result<std::unique_ptr<Deployments>> Deployments::Open(std::filesystem::path file) {
  std::unique_ptr<Deployments> deployments(new Deployments(std::move(file)));
  TANDEM_RETURN_IF_ERROR(deployments->Refresh());
  return deployments;
}

Result<std::vector<Deployments::Entry>> Deployments::Read(const std::filesystem::path& file) {
  std::vector<Entry> entries;
  const auto text = os::ReadFile(file, kMaxFileBytes);
  if (!text && text.error().code == ErrorCode::kNotFound) return entries;
  if (!text) return std::unexpected(text.error());
  TANDEM_ASSIGN_OR_RETURN(const json::value document, ParseJson(*text, file.string()));
  JsonFields fields(document, file.string());
  if (fields.Number("format", JsonFields::kRequired) != kFormat) {
    fields.Fail("format", "is not one that this version reads");
  }
  const auto models = fields.List("models", JsonFields::kRequired);
  TANDEM_RETURN_IF_ERROR(fields.Done());
  for (size_t i = 0; i < models.size(); ++i) {
    const std::string where = fmt::format("{}'s models[{}]", file.string(), i);
    JsonFields model(*models[i], where);
    const json::value* current = model.Object("current", JsonFields::kRequired);
    const json::value* previous = model.Object("previous");
    TANDEM_RETURN_IF_ERROR(model.Done());
    Entry entry;
    TANDEM_ASSIGN_OR_RETURN(entry.current, ReadDeployment(*current, where + ".current"));
    if (previous != nullptr) {
      TANDEM_ASSIGN_OR_RETURN(entry.previous, ReadDeployment(*previous, where + ".previous"));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

Status Deployments::Refresh() {
  TANDEM_ASSIGN_OR_RETURN(auto entries, Read(file_));
  const std::lock_guard lock(mutex_);
  entries_ = std::move(entries);
  return {};
}

template <typename Change>
Status Deployments::Update(Change change) {
  const std::lock_guard lock(mutex_);
  std::filesystem::path lock_path = file_;
  lock_path += ".lock";
  TANDEM_ASSIGN_OR_RETURN(const auto file_lock, os::FileLock::Acquire(lock_path));
  TANDEM_ASSIGN_OR_RETURN(std::vector<Entry> entries, Read(file_));
  TANDEM_RETURN_IF_ERROR(change(&entries));
  std::ranges::sort(entries, {}, [](const Entry& entry) { return entry.current.model; });
  json::array models;
  for (const Entry& entry : entries) {
    json::object model{{"model", entry.current.model}, {"current", ToJson(entry.current)}};
    if (entry.previous) model["previous"] = ToJson(*entry.previous);
    models.push_back(std::move(model));
  }
  const json::object document{{"format", kFormat}, {"models", std::move(models)}};
  TANDEM_RETURN_IF_ERROR(os::WriteFileAtomic(file_, json::serialize(document) + "\n"));
  entries_ = std::move(entries);
  return {};
}

std::optional<Deployment> Deployments::Current(std::string_view model) const {
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.current.model == model) return entry.current;
  }
  return std::nullopt;
}

std::optional<Deployment> Deployments::Previous(std::string_view model) const {
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.current.model == model) return entry.previous;
  }
  return std::nullopt;
}

std::optional<Deployment> Deployments::OfPackage(const std::filesystem::path& package) const {
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.current.package == package.string()) return entry.current;
  }
  return std::nullopt;
}

std::vector<Deployment> Deployments::List() const {
  const std::lock_guard lock(mutex_);
  std::vector<Deployment> current;
  for (const Entry& entry : entries_) current.push_back(entry.current);
  return current;
}

Status Deployments::Activate(const Deployment& deployment) {
  return Update([&](std::vector<Entry>* entries) -> Status {
    for (Entry& entry : *entries) {
      if (entry.current.model != deployment.model) continue;
      if (!SamePlace(entry.current, deployment)) entry.previous = std::move(entry.current);
      entry.current = deployment;
      return {};
    }
    entries->push_back({.current = deployment, .previous = {}});
    return {};
  });
}

Result<Deployment> Deployments::RollBack(std::string_view model, int64_t now_s) {
  Deployment back;
  TANDEM_RETURN_IF_ERROR(Update([&](std::vector<Entry>* entries) -> Status {
    for (Entry& entry : *entries) {
      if (entry.current.model != model) continue;
      if (!entry.previous) {
        return Err(ErrorCode::kFailedPrecondition,
                   "'{}' has no deployment before the current one to go back to", model);
      }
      std::swap(entry.current, *entry.previous);
      entry.current.deployed_at_s = now_s;
      back = entry.current;
      return {};
    }
    return NeverDeployed(model);
  }));
  return back;
}

Status Deployments::Remove(std::string_view model) {
  return Update([&](std::vector<Entry>* entries) -> Status {
    const auto removed =
        std::erase_if(*entries, [&](const Entry& entry) { return entry.current.model == model; });
    if (removed == 0) return NeverDeployed(model);
    return {};
  });
}

}  // namespace tandem::fleet
