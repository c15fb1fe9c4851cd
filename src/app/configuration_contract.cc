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
    const TargetSettings* shipped = ShippedTarget(from.model);
    const bool local_url = from.base_url == "local";
    const bool known_here = fleet::Catalogue::BuiltIn().Find(from.model) != nullptr;
    const bool shipped_cloud = shipped && shipped->target.tier == gateway::Tier::kCloud;
    const bool device = local_url || known_here || (!from.base_url && !shipped_cloud);

    const std::string path = fmt::format("strategy[0].target[{}]", strategy.targets.size());
    const std::string split = fmt::format("strategy[0].split[{}]", strategy.splits.size());
    TargetSettings target;
    target.target.id = name;
    target.target.model = from.model;
    if (from.timeout) target.total_timeout = *from.timeout;
    if (device) {
      // What is shipped for this model knows its other names and its size.
      const bool shipped_device = shipped && !shipped_cloud;
      target.target.tier = shipped_device ? shipped->target.tier : gateway::Tier::kDeviceSmall;
      if (shipped_device) {
        target.package = shipped->PackageName();
        target.target.aliases = shipped->target.aliases;
        std::erase(target.target.aliases, from.model);
      }
    } else {
      target.target.tier = gateway::Tier::kCloud;
      target.upstream = AddUpstream(name, from);
    }
    for (const TargetSettings& other : strategy.targets) {
      if (device && other.target.tier != gateway::Tier::kCloud &&
          other.PackageName() == target.PackageName()) {
        Complain(name + ".model", "is the primary's model on the same device; write another one");
      }
    }
    strategy.splits.push_back({.target = name, .share = *from.traffic_percentage / 100});
    strategy.targets.push_back(std::move(target));
    Adopt(name, path);
    for (const char* field : {".id", ".tier", ".aliases", ".package", ".upstream"}) {
      Adopt(name, path + field);
    }
    Adopt(name + ".model", path + ".model");
    Adopt(name + ".timeout_ms", path + ".total_timeout_ms");
    Adopt(name, split);
    Adopt(name, split + ".target");
    Adopt(name + ".traffic_percentage", split + ".share");
  }

  // Gives the name of the upstream, empty where it is the model's.
  std::string AddUpstream(const std::string& name, const ContractTarget& from) {
    const UpstreamSettings* shipped = ShippedConfiguration().FindUpstream(from.model);
    if (!from.base_url || (shipped != nullptr && shipped->base_url == from.base_url)) {
      // It knows the provider's habits, and where its key is.
      AddShippedUpstream(from.model, configuration_);
      return {};
    }
    if (const std::string problem = BaseUrlProblem(*from.base_url); !problem.empty()) {
      Complain(name + ".base_url", problem);
    }
    UpstreamSettings upstream{.model = from.model, .base_url = *from.base_url};
    // The same model at two places is how one moves from one to the other.
    const bool taken = configuration_->FindUpstream(from.model) != nullptr;
    if (taken) {
      upstream.model = fmt::format("{}-{}", from.model, name);
      upstream.upstream_model = from.model;
    }
    const std::string path = fmt::format("upstream[{}]", configuration_->upstreams.size());
    Adopt(name, path);
    Adopt(name + ".model", path + ".model");
    Adopt(name + ".base_url", path + ".base_url");
    configuration_->upstreams.push_back(upstream);
    return taken ? upstream.model : std::string();
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
