// From what a configuration says about upstreams to what calls them: the one place where their keys
// are looked for.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/configuration.h"
#include "base/error.h"
#include "gateway/upstream/upstream_provider.h"

namespace tandem::app {

// A key is looked for, in this order, in
//   1. the variable that api_key_env names, or the file that api_key_file does;
//   2. TANDEM_UPSTREAM_KEY_<MODEL>, the model's name in capitals with '_' for everything that is no
//      letter or digit, or the file that TANDEM_UPSTREAM_KEY_<MODEL>_FILE names;
//   3. TANDEM_UPSTREAM_KEY, or the file that TANDEM_UPSTREAM_KEY_FILE names: not for an upstream
//      that says where its key is, so that no provider is sent another one's.
struct UpstreamKey {
  std::string text;    // empty: there is none
  std::string source;  // "DEEPSEEK_API_KEY", "file /run/secrets/key"; never the key
  // Why the upstream cannot be used without one; empty: it can.
  std::string missing;
};
// Errors: kInvalidArgument for a key that no header can carry; those of reading a file that the
// environment names.
Result<UpstreamKey> FindUpstreamKey(const UpstreamSettings& upstream,
                                    const std::filesystem::path& directory);

// "key from DEEPSEEK_API_KEY", "not enabled: set DEEPSEEK_API_KEY", "no key", for `config show`.
std::string DescribeUpstreamKey(const UpstreamSettings& upstream,
                                const std::filesystem::path& directory);

struct ResolvedUpstream {
  gateway::upstream::UpstreamOptions options;
  std::string disabled_reason;  // empty: it can be called
};
// Every upstream, in the order of the configuration. Errors: as FindUpstreamKey.
Result<std::vector<ResolvedUpstream>> ResolveUpstreams(const Configuration& configuration);

}  // namespace tandem::app
