#include "app/configuration.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "app/configuration_check.h"
#include "app/configuration_contract.h"
#include "app/configuration_reader.h"
#include "app/configuration_schema.h"
#include "app/configuration_upstreams.h"
#include "base/check.h"
#include "crypto/digest.h"
#include "gateway/upstream/quirks.h"
#include "os/file.h"

namespace tandem::app {
namespace {

constexpr std::string_view kShippedName = "three-tier.toml";

constexpr std::array<std::string_view, 3> kContinuationNames = {"auto", "none", "prompted"};

// Copies what is known about the origins at and below one path to another one.
void CopyOrigins(const Configuration& from, const std::string& from_path, const std::string& path,
                 Configuration* to) {
  for (const auto& [key, origin] : from.origins) {
    const std::string_view rest =
        std::string_view(key).substr(std::min(key.size(), from_path.size()));
    if (key.starts_with(from_path) && (rest.empty() || rest[0] == '.' || rest[0] == '[')) {
      to->origins[path + std::string(rest)] = origin;
    }
  }
}

// A text without a strategy gets the shipped one, and those of its upstreams that it does not have.
void AddShippedStrategies(Configuration* configuration) {
  const Configuration& shipped = ShippedConfiguration();
  for (size_t i = 0; i < shipped.strategies.size(); ++i) {
    const std::string path = fmt::format("strategy[{}]", i);
    CopyOrigins(shipped, path, path, configuration);
  }
  configuration->strategies = shipped.strategies;
  for (const StrategySettings& strategy : shipped.strategies) {
    for (const TargetSettings& target : strategy.targets) {
      if (target.target.tier == gateway::Tier::kCloud) {
        AddShippedUpstream(target.UpstreamName(), configuration);
      }
    }
  }
}

Result<Configuration> Parse(std::string_view text, std::string_view file_name, Origin::Kind kind) {
  TANDEM_ASSIGN_OR_RETURN(const DocumentNode document, ParseDocument(text, file_name));
  Configuration configuration;
  ConfigurationIssues issues;
  const schema::ReadContext context{file_name, kind, &issues, &configuration.origins};
  if (IsContractShape(document)) {
    ReadContract(context, document, &configuration);
  } else {
    schema::TableReader reader(&context, &document, "");
    schema::DescribeConfiguration(reader, configuration);
    reader.Finish();
  }
  // What does not fit by itself would only raise more complaints.
  TANDEM_RETURN_IF_ERROR(issues.ToStatus());
  if (configuration.strategies.empty()) AddShippedStrategies(&configuration);
  TANDEM_RETURN_IF_ERROR(CheckConfiguration(configuration));
  return configuration;
}

}  // namespace

namespace schema {

Result<gateway::Tier> ParseTier(std::string_view name) {
  for (const gateway::Tier tier :
       {gateway::Tier::kDeviceSmall, gateway::Tier::kDeviceLarge, gateway::Tier::kCloud}) {
    if (TierName(tier) == name) return tier;
  }
  return Err(ErrorCode::kInvalidArgument,
             "unknown tier {}; use one of device_small, device_large, cloud", Quoted(name));
}

Result<Continuation> ParseContinuation(std::string_view name) {
  const auto found = std::ranges::find(kContinuationNames, name);
  if (found == kContinuationNames.end()) {
    return Err(ErrorCode::kInvalidArgument, "unknown continuation {}; use one of {}", Quoted(name),
               fmt::join(kContinuationNames, ", "));
  }
  return static_cast<Continuation>(found - kContinuationNames.begin());
}

std::vector<std::string_view> UpstreamKinds() {
  std::vector<std::string_view> names;
  for (const auto& quirks : gateway::upstream::AllQuirks()) names.push_back(quirks.name);
  return names;
}

}  // namespace schema

std::string FormatOrigin(const Origin& origin) {
  switch (origin.kind) {
    case Origin::Kind::kDefault:
      return "default";
    case Origin::Kind::kShipped:
      return fmt::format("shipped {}:{}", origin.source, origin.at.line);
    case Origin::Kind::kFile:
      return fmt::format("{}:{}", origin.source, origin.at.line);
    case Origin::Kind::kFlag:
      return "flag " + origin.source;
  }
  return {};
}

std::string_view ContinuationName(Continuation continuation) {
  return kContinuationNames[static_cast<size_t>(continuation)];
}

const UpstreamSettings* Configuration::FindUpstream(std::string_view model) const {
  const auto found = std::ranges::find(upstreams, model, &UpstreamSettings::model);
  return found == upstreams.end() ? nullptr : &*found;
}

const StrategySettings* Configuration::FindStrategy(std::string_view name) const {
  const auto found = std::ranges::find(strategies, name, &StrategySettings::name);
  return found == strategies.end() ? nullptr : &*found;
}

Result<Configuration> ParseConfiguration(std::string_view text, std::string_view file_name) {
  return Parse(text, file_name, Origin::Kind::kFile);
}

Result<Configuration> LoadConfiguration(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(path, kMaxDocumentBytes));
  TANDEM_ASSIGN_OR_RETURN(Configuration configuration, ParseConfiguration(text, path.string()));
  configuration.directory = path.parent_path();
  return configuration;
}

const Configuration& ShippedConfiguration() {
  static const Configuration kShipped = [] {
    auto parsed = Parse(ShippedConfigurationText(), kShippedName, Origin::Kind::kShipped);
    TANDEM_CHECK(parsed);
    return *std::move(parsed);
  }();
  return kShipped;
}

void AddShippedUpstream(std::string_view model, Configuration* configuration) {
  const Configuration& shipped = ShippedConfiguration();
  const UpstreamSettings* upstream = shipped.FindUpstream(model);
  if (upstream == nullptr || configuration->FindUpstream(model) != nullptr) return;
  CopyOrigins(shipped, fmt::format("upstream[{}]", upstream - shipped.upstreams.data()),
              fmt::format("upstream[{}]", configuration->upstreams.size()), configuration);
  configuration->upstreams.push_back(*upstream);
}

gateway::Strategy RoutingStrategy(const Configuration& configuration,
                                  const StrategySettings& strategy) {
  gateway::Strategy routing{.name = strategy.name,
                            .mode = strategy.mode,
                            .targets = {},
                            .rules = strategy.rules,
                            .splits = strategy.splits,
                            .fall_back_from_explicit_model = strategy.fall_back_from_explicit_model,
                            .min_battery_share = strategy.min_battery_share};
  for (const TargetSettings& settings : strategy.targets) {
    gateway::Target target = settings.target;
    target.privacy = std::max({target.privacy, strategy.privacy, configuration.privacy.standard});
    routing.targets.push_back(std::move(target));
  }
  return routing;
}

DocumentNode::Table DescribeConfiguration(const Configuration& configuration) {
  schema::TableWriter writer;
  schema::DescribeConfiguration(writer, configuration);
  return writer.Take();
}

std::string FormatConfiguration(const Configuration& configuration) {
  return FormatTomlDocument(DescribeConfiguration(configuration), nullptr);
}

std::string FormatConfigurationWithOrigins(const Configuration& configuration) {
  class OriginComments final : public DocumentComments {
   public:
    explicit OriginComments(const Configuration& shown) : shown_(shown) {
      for (size_t i = 0; i < shown.upstreams.size(); ++i) {
        keys_[fmt::format("upstream[{}]", i)] =
            DescribeUpstreamKey(shown.upstreams[i], shown.directory);
      }
    }
    std::string ForValue(std::string_view path) const override {
      const auto origin = shown_.origins.find(path);
      return FormatOrigin(origin == shown_.origins.end() ? Origin() : origin->second);
    }
    std::string ForTable(std::string_view path) const override {
      const auto key = keys_.find(path);
      return key == keys_.end() ? "" : key->second;
    }

   private:
    const Configuration& shown_;
    std::map<std::string, std::string, std::less<>> keys_;
  };
  const OriginComments comments(configuration);
  return FormatTomlDocument(DescribeConfiguration(configuration), &comments);
}

std::string ConfigurationDigest(const Configuration& configuration) {
  return crypto::Sha256Hex(FormatConfiguration(configuration));
}

std::vector<std::string> ChangedPaths(const Configuration& before, const Configuration& after) {
  const auto old_values = FlattenDocument(DescribeConfiguration(before));
  const auto new_values = FlattenDocument(DescribeConfiguration(after));
  std::map<std::string_view, std::string> known;
  for (const auto& [path, node] : old_values) known.emplace(path, FormatDocumentValue(node));
  std::vector<std::string> changed;
  for (const auto& [path, node] : new_values) {
    const auto found = known.find(path);
    if (found == known.end() || found->second != FormatDocumentValue(node)) {
      changed.push_back(path);
    }
    if (found != known.end()) known.erase(found);
  }
  for (const auto& [path, value] : known) changed.emplace_back(path);
  std::ranges::sort(changed);
  return changed;
}

}  // namespace tandem::app
