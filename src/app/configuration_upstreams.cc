#include "app/configuration_upstreams.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "os/file.h"
#include "os/paths.h"

namespace tandem::app {
namespace {

constexpr size_t kMaxKeyBytes = 4096;

std::string OwnVariable(std::string_view model) {
  std::string name = "TANDEM_UPSTREAM_KEY_";
  for (const char c : model) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    name += !plain ? '_' : c >= 'a' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return name;
}

Result<UpstreamKey> CheckedKey(std::string text, std::string source) {
  const bool visible = std::ranges::all_of(
      text, [](char c) { return c > 0x20 && static_cast<signed char>(c) < 0x7F; });
  if (!visible || text.size() > kMaxKeyBytes) {
    return Err(ErrorCode::kInvalidArgument,
               "{} holds no key: a key is one word of visible ASCII characters", source);
  }
  return UpstreamKey{.text = std::move(text), .source = std::move(source), .missing = {}};
}

Result<UpstreamKey> KeyFromFile(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::string content, os::ReadFile(path, kMaxKeyBytes));
  std::string line = content.substr(0, content.find_first_of("\r\n"));
  if (line.empty()) {
    return Err(ErrorCode::kInvalidArgument, "{}: its first line is empty; write the key there",
               path.string());
  }
  return CheckedKey(std::move(line), "file " + path.string());
}

// The variable itself, or the file that the variable with _FILE names.
Result<std::optional<UpstreamKey>> KeyFromEnvironment(const std::string& name) {
  if (auto text = os::GetEnv(name.c_str())) {
    TANDEM_ASSIGN_OR_RETURN(UpstreamKey key, CheckedKey(*std::move(text), name));
    return key;
  }
  if (const auto file = os::GetEnv((name + "_FILE").c_str())) {
    auto key = KeyFromFile(*file);
    if (!key) return Wrap(std::move(key).error(), name + "_FILE");
    return *std::move(key);
  }
  return std::nullopt;
}

}  // namespace

Result<UpstreamKey> FindUpstreamKey(const UpstreamSettings& upstream,
                                    const std::filesystem::path& directory) {
  const std::string own = OwnVariable(upstream.model);
  std::string missing;
  if (!upstream.api_key_env.empty()) {
    if (auto text = os::GetEnv(upstream.api_key_env.c_str())) {
      return CheckedKey(*std::move(text), upstream.api_key_env);
    }
    missing = fmt::format("set {} or {} to its key", upstream.api_key_env, own);
  } else if (!upstream.api_key_file.empty()) {
    auto key = KeyFromFile(directory / upstream.api_key_file);
    if (key) return key;
    missing = fmt::format("{}; or set {} to its key", key.error().message, own);
  }
  TANDEM_ASSIGN_OR_RETURN(auto key, KeyFromEnvironment(own));
  if (key) return *std::move(key);
  if (missing.empty()) {
    TANDEM_ASSIGN_OR_RETURN(key, KeyFromEnvironment("TANDEM_UPSTREAM_KEY"));
    if (key) return *std::move(key);
  }
  return UpstreamKey{.text = {}, .source = {}, .missing = std::move(missing)};
}

std::string DescribeUpstreamKey(const UpstreamSettings& upstream,
                                const std::filesystem::path& directory) {
  const auto key = FindUpstreamKey(upstream, directory);
  if (!key) return "not enabled: " + key.error().message;
  if (!key->text.empty()) return "key set from " + key->source;
  return key->missing.empty() ? "no key" : "not enabled: " + key->missing;
}

Result<std::vector<ResolvedUpstream>> ResolveUpstreams(const Configuration& configuration) {
  std::vector<ResolvedUpstream> resolved;
  for (const UpstreamSettings& upstream : configuration.upstreams) {
    std::optional<gateway::upstream::UpstreamKind> kind;
    if (!upstream.kind.empty()) {
      TANDEM_ASSIGN_OR_RETURN(kind, gateway::upstream::ParseUpstreamKind(upstream.kind));
    }
    auto key = FindUpstreamKey(upstream, configuration.directory);
    if (!key) return Wrap(std::move(key).error(), "upstream " + upstream.model);
    resolved.push_back({.options = {.model = upstream.model,
                                    .upstream_model = upstream.upstream_model,
                                    .base_url = upstream.base_url,
                                    .api_key = std::move(key->text),
                                    .kind = kind,
                                    .connect_timeout = upstream.connect_timeout,
                                    .first_token_timeout = upstream.first_token_timeout,
                                    .between_tokens_timeout = upstream.between_tokens_timeout,
                                    .total_timeout = upstream.total_timeout},
                        .disabled_reason = std::move(key->missing)});
  }
  return resolved;
}

}  // namespace tandem::app
