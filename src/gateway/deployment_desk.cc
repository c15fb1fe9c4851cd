#include "gateway/deployment_desk.h"

#include <optional>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "gateway/openai/json_text.h"
#include "gateway/openai/object_reader.h"

namespace tandem::gateway {
namespace {

namespace json = boost::json;
using openai::ObjectReader;

constexpr size_t kMaxBodyBytes = size_t{64} << 10;
constexpr size_t kMaxNameBytes = 256;
constexpr int64_t kMaxMegabytes = int64_t{1} << 30;

std::expected<json::value, Failure> ParseBody(std::string_view body) {
  if (body.size() > kMaxBodyBytes) {
    return std::unexpected(Failure{
        FailureCode::kPayloadTooLarge,
        fmt::format("the body has {} bytes; at most {} are accepted", body.size(), kMaxBodyBytes)});
  }
  boost::system::error_code error;
  json::value value = json::parse(json::string_view(body.data(), body.size()), error);
  if (error || !value.is_object()) {
    return std::unexpected(Failure{FailureCode::kInvalidRequest, "the body must be a JSON object"});
  }
  return value;
}

std::expected<std::string, Failure> Name(const ObjectReader& object, std::string_view field) {
  TANDEM_ASSIGN_OR_RETURN(const auto text, object.String(field));
  if (!text) return std::string();
  if (text->empty() || text->size() > kMaxNameBytes) {
    return openai::Invalid(object.PathOf(field), "must have 1 to {} bytes", kMaxNameBytes);
  }
  return std::string(*text);
}

}  // namespace

std::expected<DeploymentDesk::Order, Failure> ParseDeployOrder(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseBody(text));
  const ObjectReader body(value.get_object(), "");
  DeploymentDesk::Order order;
  TANDEM_ASSIGN_OR_RETURN(order.model, Name(body, "model_id"));
  if (order.model.empty()) {
    TANDEM_ASSIGN_OR_RETURN(order.model, Name(body, "model"));
  }
  if (order.model.empty()) {
    return openai::Invalid("model_id", "is required, for example \"phi-4-mini\"");
  }
  TANDEM_ASSIGN_OR_RETURN(const auto npu, body.Bool("npu_enabled"));
  order.accelerator = npu.value_or(false);
  TANDEM_ASSIGN_OR_RETURN(const auto fallback, body.Bool("allow_software_fallback"));
  order.software_fallback = fallback.value_or(true);
  TANDEM_ASSIGN_OR_RETURN(const auto limit, body.Integer("memory_limit_mb", 1, kMaxMegabytes));
  order.memory_limit_bytes = static_cast<uint64_t>(limit.value_or(0)) << 20;
  // What the client says of its device is for the record: the accelerators of this machine are
  // asked themselves.
  TANDEM_ASSIGN_OR_RETURN(const json::object* const device, body.Object("device_config"));
  if (device != nullptr) {
    const ObjectReader config(*device, "device_config");
    TANDEM_ASSIGN_OR_RETURN(order.device_id, Name(config, "device_id"));
    for (const std::string_view field : {"npu_vendor", "driver_version", "soc"}) {
      TANDEM_RETURN_IF_ERROR(Name(config, field));
    }
  }
  return order;
}

std::string RenderDeployed(const DeploymentDesk::Deployed& deployed) {
  std::string out = "{\"status\":\"deployed\",\"deployment_id\":";
  openai::AppendJsonString(deployed.id, &out);
  out += ",\"model_id\":";
  openai::AppendJsonString(deployed.model, &out);
  out += ",\"executor\":";
  openai::AppendJsonString(deployed.executor, &out);
  // As everywhere, "mb" is 2^20 bytes.
  out += fmt::format(
      ",\"software_fallback\":{},\"batch_size\":{},\"attempts\":{},\"memory_mb\":{:.1f},"
      "\"reason\":",
      deployed.software_fallback, deployed.batch_size, deployed.attempts,
      static_cast<double>(deployed.memory_bytes) / (1 << 20));
  openai::AppendJsonString(deployed.reason, &out);
  out += ",\"package_digest\":";
  openai::AppendJsonString("sha256:" + deployed.package_digest, &out);
  return out + "}";
}

std::expected<std::string, Failure> ParseResetOrder(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseBody(text));
  const ObjectReader body(value.get_object(), "");
  TANDEM_ASSIGN_OR_RETURN(std::string device_id, Name(body, "device_id"));
  if (device_id.empty()) return openai::Invalid("device_id", "is required");
  return device_id;
}

std::string RenderReset(std::string_view device_id, int n_accelerators) {
  std::string out = "{\"status\":\"reset\",\"device_id\":";
  openai::AppendJsonString(device_id, &out);
  return out + fmt::format(",\"accelerators\":{}}}", n_accelerators);
}

}  // namespace tandem::gateway
