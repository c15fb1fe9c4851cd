// The command line over a configuration.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "app/configuration.h"
#include "app/configuration_check.h"
#include "app/configuration_schema.h"

namespace tandem::app {
namespace {

class FlagReader {
 public:
  explicit FlagReader(Configuration* configuration) : configuration_(configuration) {}

  // A flag is a field of [server], so it is read as one.
  template <typename T, typename Codec>
  void Server(std::string_view flag, std::string_view name, const std::optional<T>& value,
              const Codec& codec, auto* member) {
    if (!value) return;
    const DocumentNode node{.value = ToNode(*value)};
    if (codec.Read({&issues_, flag, ""}, node, member)) Note(flag, fmt::format("server.{}", name));
  }

  void Alias(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) return Complain("--alias", text, "write NAME=MODEL");
    const AliasSettings alias{text.substr(0, equals), text.substr(equals + 1)};
    if (alias.name.empty() || alias.model.empty() || alias.name == alias.model) {
      return Complain("--alias", text, "write NAME=MODEL, two different names");
    }
    Put("--alias", "alias", &configuration_->aliases, &AliasSettings::name, alias);
  }

  void Upstream(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Complain("--upstream", text.substr(0, equals), "write MODEL=BASE_URL");
    }
    const UpstreamSettings upstream{.model = text.substr(0, equals),
                                    .base_url = text.substr(equals + 1)};
    // The URL is not quoted: people put keys into it.
    if (const std::string problem = BaseUrlProblem(upstream.base_url); !problem.empty()) {
      return Complain("--upstream", upstream.model, problem);
    }
    if (std::ranges::find(flag_upstreams_, upstream.model) != flag_upstreams_.end()) {
      return Complain("--upstream", upstream.model, "there are two of that name");
    }
    flag_upstreams_.push_back(upstream.model);
    Put("--upstream", "upstream", &configuration_->upstreams, &UpstreamSettings::model, upstream);
  }

  void UpstreamModel(const std::string& text) {
    const size_t equals = text.find('=');
    const auto named = std::ranges::find(configuration_->upstreams, text.substr(0, equals),
                                         &UpstreamSettings::model);
    if (equals == std::string::npos || named == configuration_->upstreams.end()) {
      return Complain("--upstream-model", text,
                      "write MODEL=NAME, MODEL being that of an --upstream");
    }
    named->upstream_model = text.substr(equals + 1);
    Note("--upstream-model",
         fmt::format("upstream[{}].upstream_model", named - configuration_->upstreams.begin()));
  }

  Status Finish() {
    TANDEM_RETURN_IF_ERROR(issues_.ToStatus());
    return CheckConfiguration(*configuration_);
  }

 private:
  static decltype(DocumentNode::value) ToNode(const std::string& text) { return text; }
  static decltype(DocumentNode::value) ToNode(int value) { return int64_t{value}; }
  static decltype(DocumentNode::value) ToNode(double value) { return value; }

  void Complain(std::string_view flag, std::string_view value, std::string_view message) {
    issues_.Add(fmt::format("{} {}", flag, Quoted(value)), {}, "", message);
  }
  void Note(std::string_view flag, const std::string& path) {
    configuration_->origins[path] = Origin{Origin::Kind::kFlag, std::string(flag)};
  }

  // In the place of what has the same name, else behind the others.
  template <typename T>
  void Put(std::string_view flag, std::string_view list, std::vector<T>* settings,
           std::string T::* name, const T& value) {
    const auto same = std::ranges::find(*settings, value.*name, name);
    const std::string path = fmt::format("{}[{}]", list, same - settings->begin());
    if (same == settings->end()) {
      settings->push_back(value);
    } else {
      *same = value;
      std::erase_if(configuration_->origins, [&](const auto& entry) {
        return entry.first == path || entry.first.starts_with(path + ".");
      });
    }
    Note(flag, path);
    for (const std::string_view field : {"name", "model", "base_url"}) {
      const bool of_alias = list == "alias";
      if (of_alias ? field != "base_url" : field != "name") {
        Note(flag, fmt::format("{}.{}", path, field));
      }
    }
  }

  Configuration* const configuration_;
  ConfigurationIssues issues_;
  std::vector<std::string> flag_upstreams_;
};

}  // namespace

Result<Configuration> ApplyFlags(Configuration configuration, const ConfigurationFlags& flags) {
  FlagReader reader(&configuration);
  ServerSettings& s = configuration.server;
  reader.Server("--listen", "listen", flags.listen, schema::kListenAddress, &s.listen);
  reader.Server("--io-threads", "io_threads", flags.io_threads, schema::kIoThreads, &s.io_threads);
  reader.Server("--max-in-flight", "max_in_flight", flags.max_in_flight, schema::kMaxInFlight,
                &s.max_in_flight);
  reader.Server("--cors-origin", "cors_allow_origin", flags.cors_allow_origin, schema::kText,
                &s.cors_allow_origin);
  reader.Server("--drain-timeout", "drain_timeout_s", flags.drain_timeout_s, schema::kSeconds,
                &s.drain_timeout);
  reader.Server("--memory-limit", "memory_limit", flags.memory_limit, schema::ByteSizeCodec(),
                &s.memory_limit_bytes);
  reader.Server("--context", "context", flags.context, schema::kContext, &s.context_tokens);
  reader.Server("--threads", "threads", flags.threads, schema::kThreads, &s.threads);
  reader.Server("--kv-type", "kv_type", flags.kv_type, schema::kKvType, &s.kv_precision);
  reader.Server("--keep-alive", "keep_alive_s", flags.keep_alive_s, schema::kSeconds,
                &s.keep_alive);
  reader.Server("--speculation", "speculation", flags.speculation, schema::kSpeculation,
                &s.speculation);
  reader.Server("--huge-pages", "huge_pages", flags.huge_pages, schema::kHugePages, &s.huge_pages);
  for (const std::string& text : flags.upstreams) reader.Upstream(text);
  for (const std::string& text : flags.upstream_models) reader.UpstreamModel(text);
  for (const std::string& text : flags.aliases) reader.Alias(text);
  TANDEM_RETURN_IF_ERROR(reader.Finish());
  return configuration;
}

}  // namespace tandem::app
