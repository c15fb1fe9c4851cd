#include "app/configuration_check.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "app/configuration_issues.h"
#include "gateway/upstream/upstream_provider.h"

namespace tandem::app {
namespace {

class Checker {
 public:
  explicit Checker(const Configuration& configuration) : configuration_(configuration) {}

  Status Run() {
    CheckStore();
    CheckUpstreams();
    CheckAliases();
    CheckStrategies();
    CheckCanary();
    if (configuration_.breaker.recovery_timeout > configuration_.breaker.max_recovery) {
      Complain("breaker.recovery_timeout_s",
               "must not be above max_recovery_s, to which it doubles; raise that one too");
    }
    return issues_.ToStatus();
  }

 private:
  void Complain(std::string_view path, std::string_view message) {
    issues_.AddAt(configuration_, path, message);
  }

  // Of an environment variable. What stands there is never shown: it may be the secret itself.
  static bool IsVariable(std::string_view text) {
    return std::ranges::all_of(text, [](char c) {
      return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
  }

  void CheckStore() {
    const StoreSettings& store = configuration_.store;
    if (!IsVariable(store.password_env)) {
      Complain("store.password_env",
               "is no name of an environment variable; write the variable's name here and the "
               "password into the variable");
    }
    if (!store.password_env.empty() && !store.password_file.empty()) {
      Complain("store.password_file", "there is a password_env already; write one of the two");
    }
    const bool password = !store.password_env.empty() || !store.password_file.empty();
    if (password && store.url.empty()) {
      Complain("store.url", "there is a password but no database that it is for; write url too");
    }
  }

  void CheckUpstreams() {
    std::set<std::string_view> names;
    for (size_t i = 0; i < configuration_.upstreams.size(); ++i) {
      const UpstreamSettings& upstream = configuration_.upstreams[i];
      const std::string path = fmt::format("upstream[{}]", i);
      if (!names.insert(upstream.model).second) {
        Complain(path + ".model",
                 fmt::format("there are two upstreams for {}; give this one another name, and "
                             "upstream_model for what its API calls it",
                             Quoted(upstream.model)));
      }
      if (const std::string problem = BaseUrlProblem(upstream.base_url); !problem.empty()) {
        Complain(path + ".base_url", problem);
      }
      if (!IsVariable(upstream.api_key_env)) {
        Complain(path + ".api_key_env",
                 "is no name of an environment variable; write the variable's name here and the "
                 "key into the variable");
      }
      if (!upstream.api_key_env.empty() && !upstream.api_key_file.empty()) {
        Complain(path + ".api_key_file", "there is an api_key_env already; write one of the two");
      }
    }
  }

  void CheckAliases() {
    std::set<std::string_view> names;
    for (size_t i = 0; i < configuration_.aliases.size(); ++i) {
      const AliasSettings& alias = configuration_.aliases[i];
      const std::string path = fmt::format("alias[{}].name", i);
      if (alias.name == alias.model) {
        Complain(path, "is the model's own name; write two different ones");
      } else if (!names.insert(alias.name).second) {
        Complain(path, fmt::format("there are two aliases {}", Quoted(alias.name)));
      } else if (configuration_.FindStrategy(alias.name) != nullptr) {
        Complain(path, fmt::format("hides the strategy {}; use another name", Quoted(alias.name)));
      } else if (configuration_.FindUpstream(alias.name) != nullptr) {
        Complain(path, fmt::format("hides the upstream {}; use another name", Quoted(alias.name)));
      }
    }
  }

  void CheckStrategies() {
    std::set<std::string_view> names;
    for (size_t i = 0; i < configuration_.strategies.size(); ++i) {
      const StrategySettings& strategy = configuration_.strategies[i];
      const std::string path = fmt::format("strategy[{}]", i);
      if (!names.insert(strategy.name).second) {
        Complain(path + ".name", fmt::format("there are two strategies {}", Quoted(strategy.name)));
      }
      for (size_t j = 0; j < strategy.targets.size(); ++j) {
        CheckTarget(strategy, strategy.targets[j], fmt::format("{}.target[{}]", path, j));
      }
      const Status valid = gateway::Validate(RoutingStrategy(configuration_, strategy));
      if (!valid)
        Complain(fmt::format("{}.{}", path, OurPath(valid.error().param)), valid.error().message);
      const gateway::Privacy privacy = std::max(strategy.privacy, configuration_.privacy.standard);
      if (strategy.mode == gateway::Mode::kOnlyInCloud && privacy == gateway::Privacy::kOnDevice) {
        Complain(path + ".mode",
                 "ONLY_IN_CLOUD and the privacy 'on_device' together refuse every request; change "
                 "one of them");
      }
    }
  }

  void CheckTarget(const StrategySettings& strategy, const TargetSettings& target,
                   const std::string& path) {
    const bool cloud = target.target.tier == gateway::Tier::kCloud;
    if (cloud && !target.package.empty()) {
      Complain(path + ".package", "a target in the cloud loads no package; write upstream instead");
    }
    if (!cloud && !target.upstream.empty()) {
      Complain(path + ".upstream",
               "a target on the device calls no upstream; write package, or tier = \"cloud\"");
    }
    if (cloud && configuration_.FindUpstream(target.UpstreamName()) == nullptr) {
      std::vector<std::string_view> known;
      for (const UpstreamSettings& upstream : configuration_.upstreams) {
        known.push_back(upstream.model);
      }
      Complain(
          path + (target.upstream.empty() ? ".model" : ".upstream"),
          fmt::format("there is no [[upstream]] with model = {}{}; add one, or name another",
                      Quoted(target.UpstreamName()), Suggestion(target.UpstreamName(), known)));
    }
    if (!cloud && configuration_.FindUpstream(target.PackageName()) != nullptr) {
      Complain(
          path + (target.package.empty() ? ".model" : ".package"),
          fmt::format("there is an [[upstream]] with model = {}, which would be called for it; "
                      "give the upstream another name",
                      Quoted(target.PackageName())));
    }
    // A model's name means one provider, whichever strategy asks for it.
    const std::string& provider = cloud ? target.UpstreamName() : target.PackageName();
    const auto [bound, is_new] = providers_.emplace(target.target.model, provider);
    if (!is_new && bound->second != provider) {
      Complain(path + ".model",
               fmt::format("is {} for another target and {} here; write another model name for one "
                           "of them, and the common one into aliases",
                           Quoted(bound->second), Quoted(provider)));
    }
    if (target.target.model == strategy.name ||
        std::ranges::find(target.target.aliases, strategy.name) != target.target.aliases.end()) {
      Complain(
          path + ".model",
          "has the strategy's own name, so that nobody could ask for the strategy; rename one");
    }
  }

  void CheckCanary() {
    if (!configuration_.canary) return;
    const CanarySettings& canary = *configuration_.canary;
    const StrategySettings* strategy = configuration_.FindStrategy(canary.strategy);
    if (canary.strategy.empty() && !configuration_.strategies.empty()) {
      strategy = &configuration_.strategies.front();
    }
    if (strategy == nullptr) {
      Complain("canary.strategy",
               fmt::format("there is no [[strategy]] with name = {}", Quoted(canary.strategy)));
    } else {
      CheckCanaryTarget(*strategy, "canary.target", canary.target);
      CheckCanaryTarget(*strategy, "canary.baseline", canary.baseline);
      if (canary.target == canary.baseline) {
        Complain("canary.baseline",
                 "is the canary's own target; write the one whose place it takes");
      }
    }
    if (const Status valid = gateway::Validate(canary.options); !valid) {
      Complain("canary." + valid.error().param, valid.error().message);
    }
  }

  void CheckCanaryTarget(const StrategySettings& strategy, std::string_view path,
                         const std::string& id) {
    std::vector<std::string_view> known;
    for (const TargetSettings& target : strategy.targets) known.push_back(target.target.id);
    if (std::ranges::find(known, id) == known.end()) {
      Complain(path, fmt::format("the strategy {} has no target with id = {}{}",
                                 Quoted(strategy.name), Quoted(id), Suggestion(id, known)));
    }
  }

  // The router's names of lists are plural.
  static std::string OurPath(std::string path) {
    for (const std::string_view list : {"targets", "rules", "splits"}) {
      if (path == list || path.starts_with(std::string(list) + "[")) path.erase(list.size() - 1, 1);
    }
    return path;
  }

  const Configuration& configuration_;
  ConfigurationIssues issues_;
  std::map<std::string_view, std::string_view> providers_;  // by the model's name
};

}  // namespace

std::string BaseUrlProblem(const std::string& base_url) {
  // A key or a password may stand in it, so it is not in the message.
  gateway::upstream::UpstreamOptions options;
  options.model = "m";
  options.base_url = base_url;
  const Status valid = gateway::upstream::Validate(options);
  if (valid) return {};
  std::string message = valid.error().message;
  const std::string prefix = fmt::format("upstream {}={}: ", options.model, base_url);
  if (message.starts_with(prefix)) return message.substr(prefix.size());
  return "write a URL such as https://api.deepseek.com/v1";
}

Status CheckConfiguration(const Configuration& configuration) {
  return Checker(configuration).Run();
}

}  // namespace tandem::app
