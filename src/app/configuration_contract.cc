#include "app/configuration_contract.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "app/configuration_check.h"
#include "app/configuration_schema.h"
#include "fleet/fleet.h"

namespace tandem::app {
namespace {

struct ContractTarget {
  std::optional<std::string> base_url;
  std::string model;
  std::optional<double> traffic_percentage;
  std::optional<std::chrono::milliseconds> timeout;
};

struct Contract {
  std::optional<ContractTarget> primary;
  std::optional<ContractTarget> fallback;
  gateway::BreakerOptions breaker;
};

template <typename V>
void DescribeContractTarget(V& v, ContractTarget& t) {
  v.Field("base_url", t.base_url, schema::kName);
  v.Forbidden("api_key",
              "a key does not belong into a configuration; set the environment variable "
              "TANDEM_UPSTREAM_KEY_<MODEL>");
  v.Required("model", t.model, schema::kName, "\"mimo-7b-int4\"");
  v.Field("traffic_percentage", t.traffic_percentage, schema::RealCodec{0, 100});
  v.Field("timeout_ms", t.timeout, schema::kPositiveMs);
}

template <typename V>
void DescribeContract(V& v, Contract& c) {
  const auto target = [](auto& inner, auto& t) { DescribeContractTarget(inner, t); };
  v.OptionalSection("primary", c.primary, target);
  v.OptionalSection("fallback", c.fallback, target);
  v.Section("circuit_breaker", c.breaker, [](auto& inner, gateway::BreakerOptions& b) {
    inner.Field("error_threshold", b.error_threshold, schema::RealCodec{0.0001, 1});
    inner.Field("recovery_timeout_seconds", b.recovery_timeout, schema::kPositiveSeconds);
  });
}

// The shipped strategy's target that answers to this name; null: none.
const TargetSettings* ShippedTarget(std::string_view model) {
  for (const StrategySettings& strategy : ShippedConfiguration().strategies) {
    for (const TargetSettings& settings : strategy.targets) {
      const gateway::Target& target = settings.target;
      if (target.model == model ||
          std::ranges::find(target.aliases, model) != target.aliases.end()) {
        return &settings;
      }
    }
  }
  return nullptr;
}

class ContractReader {
 public:
  ContractReader(const schema::ReadContext& context, Configuration* configuration)
      : context_(context), configuration_(configuration) {}

  void Read(const DocumentNode& document) {
    // Origins are kept under the names of the effective configuration.
    schema::ReadContext context = context_;
    context.origins = &origins_;
    schema::TableReader reader(&context, &document, "");
    DescribeContract(reader, contract_);
    reader.Finish();
    if (!contract_.primary) {
      context_.issues->Add(context_.file, document.at, "",
                           "'primary' is missing; write {\"model\": ..., \"base_url\": ..., "
                           "\"traffic_percentage\": 100, \"timeout_ms\": 5000}");
    }
    if (!context_.issues->empty()) return;
    CheckPercentages();
    StrategySettings& strategy = configuration_->strategies.emplace_back();
    strategy.name = "deployment";
    Adopt("primary", "strategy[0]");
    Adopt("primary", "strategy[0].name");
    AddTarget("primary", *contract_.primary);
    if (contract_.fallback) AddTarget("fallback", *contract_.fallback);
    configuration_->breaker = contract_.breaker;
    // Contract clients know one figure; it must not be above the one that it doubles to.
    configuration_->breaker.max_recovery =
        std::max(contract_.breaker.max_recovery, contract_.breaker.recovery_timeout);
    Adopt("circuit_breaker.error_threshold", "breaker.error_threshold");
    Adopt("circuit_breaker.recovery_timeout_seconds", "breaker.recovery_timeout_s");
  }

 private:
  void Complain(const std::string& path, std::string_view message) {
    const auto origin = origins_.find(path);
    context_.issues->Add(context_.file,
                         origin == origins_.end() ? DocumentPosition{1, 1} : origin->second.at,
                         path, message);
  }

  // The value at `to` came from where `from` stands in the contract.
  void Adopt(const std::string& from, const std::string& to) {
    const auto origin = origins_.find(from);
    if (origin != origins_.end()) (*context_.origins)[to] = origin->second;
  }

  void CheckPercentages() {
    ContractTarget& primary = *contract_.primary;
    if (!contract_.fallback) {
      if (primary.traffic_percentage.value_or(100) != 100) {
        Complain("primary.traffic_percentage",
                 fmt::format("must be 100 where there is no fallback for the other {} %",
                             100 - *primary.traffic_percentage));
      }
      primary.traffic_percentage = 100;
      return;
    }
    ContractTarget& fallback = *contract_.fallback;
    if (!primary.traffic_percentage && !fallback.traffic_percentage) {
      primary.traffic_percentage = 100;
    }
    if (!primary.traffic_percentage)
      primary.traffic_percentage = 100 - *fallback.traffic_percentage;
    if (!fallback.traffic_percentage) {
      fallback.traffic_percentage = 100 - *primary.traffic_percentage;
    }
    const double sum = *primary.traffic_percentage + *fallback.traffic_percentage;
    if (std::abs(sum - 100) > 1e-8) {
      Complain("fallback.traffic_percentage",
               fmt::format("{} and the primary's {} make {}, not 100; write {} here, or {} there",
                           *fallback.traffic_percentage, *primary.traffic_percentage, sum,
                           100 - *primary.traffic_percentage, 100 - *fallback.traffic_percentage));
    }
  }

  void AddTarget(const std::string& name, const ContractTarget& from) {
    StrategySettings& strategy = configuration_->strategies.front();
    const std::string path = fmt::format("strategy[0].target[{}]", strategy.targets.size());
    const std::string split = fmt::format("strategy[0].split[{}]", strategy.splits.size());
    TargetSettings target;
    target.target.id = name;
    target.target.model = from.model;
    if (from.timeout) target.total_timeout = *from.timeout;
    if (IsOnDevice(from)) {
      PlaceOnDevice(name, from, &target.target);
    } else {
      PlaceInCloud(name, from, &target.target);
    }
    strategy.splits.push_back({.target = name, .share = *from.traffic_percentage / 100});
    strategy.targets.push_back(std::move(target));
    Adopt(name, path);
    for (const char* field : {".id", ".tier", ".aliases"}) Adopt(name, path + field);
    Adopt(name + ".model", path + ".model");
    Adopt(name + ".timeout_ms", path + ".total_timeout_ms");
    Adopt(name, split);
    Adopt(name, split + ".target");
    Adopt(name + ".traffic_percentage", split + ".share");
  }

  bool IsOnDevice(const ContractTarget& from) const {
    if (from.base_url == "local") return true;
    const TargetSettings* shipped = ShippedTarget(from.model);
    if (!from.base_url) {
      return shipped == nullptr || shipped->target.tier != gateway::Tier::kCloud;
    }
    // Clients keep the URL of the service that they used. Only where the device has that model
    // already, a second one with a URL is that service.
    return fleet::Catalogue::BuiltIn().FindOnDevice(from.model) != nullptr &&
           !DeviceHas(from.model);
  }

  // Whether a target before this one is that model on the device.
  bool DeviceHas(std::string_view model) const {
    const auto* entry = fleet::Catalogue::BuiltIn().FindOnDevice(model);
    return std::ranges::any_of(
        configuration_->strategies.front().targets, [&](const TargetSettings& other) {
          return other.target.tier != gateway::Tier::kCloud &&
                 (other.target.model == model ||
                  (entry && fleet::Catalogue::BuiltIn().FindOnDevice(other.target.model) == entry));
        });
  }

  void PlaceOnDevice(const std::string& name, const ContractTarget& from, gateway::Target* target) {
    if (DeviceHas(from.model)) {
      Complain(name + ".model",
               "is the primary's model on the same device; write another one, or the base_url of "
               "the service that has it");
    }
    // What is shipped for this model knows its size and its other names.
    const TargetSettings* shipped = ShippedTarget(from.model);
    target->tier = gateway::Tier::kDeviceSmall;
    if (shipped == nullptr || shipped->target.tier == gateway::Tier::kCloud) return;
    target->tier = shipped->target.tier;
    target->aliases = shipped->target.aliases;
    target->aliases.insert(target->aliases.begin(), shipped->target.model);
    std::erase(target->aliases, from.model);
  }

  void PlaceInCloud(const std::string& name, const ContractTarget& from, gateway::Target* target) {
    target->tier = gateway::Tier::kCloud;
    const UpstreamSettings* shipped = ShippedConfiguration().FindUpstream(from.model);
    const UpstreamSettings* same = configuration_->FindUpstream(from.model);
    const std::string base_url = from.base_url ? *from.base_url
                                 : shipped     ? shipped->base_url
                                               : std::string();
    if (const std::string problem = BaseUrlProblem(base_url); !problem.empty()) {
      Complain(name + ".base_url", problem);
    }
    if (same != nullptr && same->base_url == base_url) {
      Complain(name + ".model", "is the primary's model at the same place; write another one");
      return;
    }
    // The shipped one knows the provider's habits, and where its key is.
    const bool is_shipped = shipped != nullptr && shipped->base_url == base_url;
    if (is_shipped && same == nullptr) return AddShippedUpstream(from.model, configuration_);
    UpstreamSettings upstream = is_shipped ? *shipped : UpstreamSettings{};
    upstream.model = from.model;
    upstream.base_url = base_url;
    // The same model at two places is how one moves from one to the other. Each has a name, and
    // clients' own name for it means both.
    if (same != nullptr || DeviceHas(from.model)) {
      upstream.model = fmt::format("{}-{}", from.model, name);
      if (upstream.upstream_model.empty()) upstream.upstream_model = from.model;
      target->model = upstream.model;
      target->aliases = {from.model};
    }
    const std::string path = fmt::format("upstream[{}]", configuration_->upstreams.size());
    Adopt(name, path);
    Adopt(name + ".model", path + ".model");
    Adopt(name + ".model", path + ".upstream_model");
    Adopt(name + ".base_url", path + ".base_url");
    configuration_->upstreams.push_back(std::move(upstream));
  }

  const schema::ReadContext& context_;
  Configuration* const configuration_;
  Contract contract_;
  std::map<std::string, Origin, std::less<>> origins_;  // by the contract's own paths
};

}  // namespace

bool IsContractShape(const DocumentNode& document) {
  const auto& root = std::get<DocumentNode::Table>(document.value);
  return std::ranges::any_of(root, [](const DocumentMember& member) {
    return member.key == "primary" || member.key == "fallback" || member.key == "circuit_breaker";
  });
}

void ReadContract(const schema::ReadContext& context, const DocumentNode& document,
                  Configuration* configuration) {
  ContractReader(context, configuration).Read(document);
}

}  // namespace tandem::app
