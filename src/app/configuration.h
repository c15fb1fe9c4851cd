// What `tandem serve` is configured with, as a value: read from one TOML file, or from JSON of the
// same names or of the wire contract's shape, or from nothing at all. docs/configuration.md
// describes every field.
//
// A file is read in three steps, each of which reports all that it finds: the text becomes a tree
// with positions (configuration_document.h), the tree is bound to these structures by one
// description of every field (configuration_schema.h), and what several fields say together is
// checked (configuration_check.cc). Each value remembers where it came from. No key of an upstream
// is in here, only where to look for it (configuration_upstreams.h).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/configuration_document.h"
#include "app/listen_address.h"
#include "base/error.h"
#include "engine/engine.h"
#include "gateway/bookkeeper.h"
#include "gateway/router/breaker.h"
#include "gateway/router/canary.h"
#include "gateway/router/policy.h"

namespace tandem::app {

// Where an effective value came from.
struct Origin {
  enum class Kind {
    kDefault,  // nobody set it
    kShipped,  // the strategy that comes with Tandem
    kFile,
    kFlag,
  };
  Kind kind = Kind::kDefault;
  std::string source = {};  // the file's name, the flag
  DocumentPosition at = {};
};
// "default", "shipped three-tier.toml:12", "tandem.toml:3", "flag --listen".
std::string FormatOrigin(const Origin& origin);

// [server]. What `tandem serve` has flags for; see docs/cli.md.
struct ServerSettings {
  ListenAddress listen{"127.0.0.1", 7070};
  int io_threads = 1;
  int max_in_flight = 64;
  std::string cors_allow_origin;  // empty: no browser may call
  bool anonymous_pull = false;    // packages of the depot need no key
  std::chrono::milliseconds drain_timeout{30'000};
  uint64_t memory_limit_bytes = 0;  // 0: what the machine or cgroup allows
  int context_tokens = 0;           // of each session; 0: the model's, at most 4,096
  int threads = 0;                  // that compute; 0: every core
  engine::KvPrecision kv_precision = engine::KvPrecision::kInt8;
  // A model that nobody used for so long is unloaded; 0: only when another one needs its memory.
  std::chrono::milliseconds keep_alive{900'000};
  std::vector<std::string> drivers;  // of accelerators, beside those in DATA_DIR/drivers
  engine::SpeculationMode speculation = engine::SpeculationMode::kAuto;
  engine::HugePages huge_pages = engine::HugePages::kOff;
};

// [store]. Where keys, usage records and the state of routing are kept.
struct StoreSettings {
  // Of a PostgreSQL that nodes share; empty: a file below the data directory.
  std::string url;
  std::string password_env;   // the variable that holds its password
  std::string password_file;  // the file that does; a relative path is beside the configuration
  std::chrono::milliseconds busy_timeout{5000};         // to wait for another writer
  std::chrono::milliseconds statement_timeout{30'000};  // of a shared database
};

// [[upstream]]. An OpenAI-compatible API.
struct UpstreamSettings {
  std::string model;           // the id under which it answers here
  std::string base_url;        // up to "/chat/completions"
  std::string upstream_model;  // what it calls the model; empty: the same
  std::string kind;            // gateway/upstream/quirks.h; empty: what the URL's host tells
  std::string api_key_env;     // the variable that holds its key; then it is not used without
  std::string api_key_file;    // the file that does; a relative path is beside the configuration
  // Zero: no limit.
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds first_token_timeout{60'000};
  std::chrono::milliseconds between_tokens_timeout{60'000};
  std::chrono::milliseconds total_timeout{600'000};
};

// [[alias]]. One model answers to another's name.
struct AliasSettings {
  std::string name;
  std::string model;
};

// How a provider goes on with an answer that another one began.
enum class Continuation {
  kAuto,      // exactly where it can, else as kPrompted
  kNone,      // not at all: it is not asked to
  kPrompted,  // it is asked to, and what it repeats is removed
};
std::string_view ContinuationName(Continuation continuation);

// [[strategy.target]]: a model at a provider, and how it is called. Zero timeouts: none beyond the
// upstream's own.
struct TargetSettings {
  gateway::Target target;  // its prices are those of the prices file for target.model
  std::string package;     // on the device: the model reference to load; empty: target.model
  std::string upstream;    // in the cloud: the [[upstream]]'s model; empty: target.model
  std::chrono::milliseconds first_token_timeout{0};
  std::chrono::milliseconds between_tokens_timeout{0};
  std::chrono::milliseconds total_timeout{0};
  int hold_tokens = 0;                // shown only once there are so many,
  std::chrono::milliseconds hold{0};  // or after this time
  // The next candidate starts beside it when it has said nothing for so long.
  std::optional<std::chrono::milliseconds> hedge_after;
  Continuation continuation = Continuation::kAuto;
  std::optional<int> max_retries;  // absent: [retry]'s
  // A first token later than this counts as a slow call in the breaker; 0: none is slow.
  std::chrono::milliseconds slow_after{0};

  const std::string& PackageName() const { return package.empty() ? target.model : package; }
  const std::string& UpstreamName() const { return upstream.empty() ? target.model : upstream; }
};

// [[strategy]]. The first one answers requests that name none.
struct StrategySettings {
  std::string name;
  gateway::Mode mode = gateway::Mode::kPreferOnDevice;
  gateway::Privacy privacy = gateway::Privacy::kAny;  // at the least, for its requests
  bool fall_back_from_explicit_model = true;
  double min_battery_share = 0.1;
  bool hand_off = true;     // another target may go on with a begun answer
  double shadow_share = 0;  // of the requests that device and cloud may answer, asked of both
  std::chrono::milliseconds deadline{600'000};  // of the whole chain
  std::vector<TargetSettings> targets;
  std::vector<gateway::Rule> rules;
  std::vector<gateway::TrafficSplit> splits;
};

// [canary].
struct CanarySettings {
  std::string strategy;  // empty: the first
  std::string target;    // the new one
  std::string baseline;  // whose place it takes
  gateway::CanaryOptions options;
};

// [retry]. Of calls that failed fast and before anything was shown.
struct RetrySettings {
  int max_retries = 2;             // of one target
  double budget_share = 0.1;       // retries a request, over all requests
  double budget_burst = 10;        // at most so many are saved up
  double budget_per_second = 0.1;  // on top, for a server with little traffic
};

// [privacy].
struct PrivacySettings {
  gateway::Privacy standard = gateway::Privacy::kAny;  // "default": at the least, for every request
  std::vector<std::string> names;                      // that redaction replaces
  gateway::Receipts receipts = gateway::Receipts::kAll;  // which requests get a signed one
  bool log_egress = false;  // a line for each call that leaves: where to, how much, its digest
};

// [usage].
struct UsageSettings {
  std::string prices_file;  // empty: the one that comes with Tandem; relative: beside the file
  int retention_days = 90;  // 0: for ever
  std::string reference_model = "deepseek-v3.2";  // whose price savings are measured against
};

// [cascade]. A local answer is looked at before it is shown, and given up where the model was
// unsure.
struct CascadeSettings {
  bool enabled = false;
  int hold_tokens = 28;
  std::chrono::milliseconds hold{400};
  // Of the answer to be right; absent: the mean log probability decides.
  std::optional<double> min_probability;
  std::string calibration_file;  // empty: the one that comes with Tandem; relative: beside the file
  double min_mean_logprob = -1.5;  // of the held tokens, natural logarithm
  // In its place, by TaskClass, for a class that it was calibrated for.
  std::array<std::optional<double>, gateway::kTaskClassCount> by_task;
};

struct Configuration {
  ServerSettings server;
  StoreSettings store;
  std::vector<UpstreamSettings> upstreams;
  std::vector<AliasSettings> aliases;
  std::vector<StrategySettings> strategies;  // never empty once parsed
  gateway::BreakerOptions breaker;
  std::optional<CanarySettings> canary;
  RetrySettings retry;
  PrivacySettings privacy;
  UsageSettings usage;
  CascadeSettings cascade;

  // By path ("upstream[0].base_url"; tables too); what is not here is a default.
  std::map<std::string, Origin, std::less<>> origins;
  std::filesystem::path directory;  // relative paths are below it; empty: the working directory

  // Null where there is none of that name.
  const UpstreamSettings* FindUpstream(std::string_view model) const;
  const StrategySettings* FindStrategy(std::string_view name) const;
};

// Reads TOML, or JSON for what begins with '{'. JSON with "primary" is the wire contract's shape.
// Where the text has no strategy, the shipped one is there, with its upstreams.
// Errors: kInvalidArgument with a line "FILE:LINE:COLUMN: FIELD: what is wrong; what to write" for
//   everything that is wrong, in the order of the text; param is the first field.
// Cost: linear in the text, which is limited (configuration_document.h).
Result<Configuration> ParseConfiguration(std::string_view text, std::string_view file_name);

// Errors: as ParseConfiguration and os::ReadFile.
Result<Configuration> LoadConfiguration(const std::filesystem::path& path);

// config/three-tier.toml, as this program was built with it.
const Configuration& ShippedConfiguration();
std::string_view ShippedConfigurationText();

// What the command line says; absent: nothing.
struct ConfigurationFlags {
  std::optional<std::string> listen;
  std::optional<int> io_threads;
  std::optional<int> max_in_flight;
  std::optional<std::string> cors_allow_origin;
  std::optional<double> drain_timeout_s;
  std::optional<std::string> memory_limit;
  std::optional<int> context;
  std::optional<int> threads;
  std::optional<std::string> kv_type;
  std::optional<double> keep_alive_s;
  std::optional<std::string> speculation;
  std::optional<std::string> huge_pages;
  std::vector<std::string> aliases;          // NAME=MODEL
  std::vector<std::string> upstreams;        // MODEL=BASE_URL
  std::vector<std::string> upstream_models;  // MODEL=NAME
};

// The flags win over the file. An --upstream or --alias of a name that the file has replaces it.
// Errors: kInvalidArgument as ParseConfiguration, with the flag in the place of file and line.
Result<Configuration> ApplyFlags(Configuration configuration, const ConfigurationFlags& flags);

// One of configuration.strategies as the router takes it, with the privacy that applies.
gateway::Strategy RoutingStrategy(const Configuration& configuration,
                                  const StrategySettings& strategy);

// Every value, in the form that ParseConfiguration reads: the tree, its text, and the text with a
// comment that says where each value came from and which upstreams have a key (never the key).
DocumentNode::Table DescribeConfiguration(const Configuration& configuration);
std::string FormatConfiguration(const Configuration& configuration);
std::string FormatConfigurationWithOrigins(const Configuration& configuration);

// SHA-256 over every value, hexadecimal: the same for the same meaning, however it is written.
std::string ConfigurationDigest(const Configuration& configuration);

// The paths whose values differ. Those of [server] and [store] take effect only
// at the next start.
std::vector<std::string> ChangedPaths(const Configuration& before, const Configuration& after);

}  // namespace tandem::app
