#include "gateway/device_advisor.h"

#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "gateway/openai/json_text.h"
#include "gateway/openai/object_reader.h"

namespace tandem::gateway {
namespace {

namespace json = boost::json;

constexpr size_t kMaxBodyBytes = size_t{64} << 10;
constexpr size_t kMaxNameBytes = 256;
constexpr double kMaxRamGb = 1e6;
constexpr int64_t kMaxContext = int64_t{1} << 24;

template <typename T>
using Parsed = std::expected<T, Failure>;

Parsed<json::value> ParseBody(std::string_view body) {
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

// A text that has to be there. `older` is another name of the field that counts as well.
Parsed<std::string> RequiredText(const openai::ObjectReader& body, std::string_view name,
                                 std::string_view example, std::string_view older = {}) {
  std::string_view used = name;
  TANDEM_ASSIGN_OR_RETURN(auto text, body.String(name));
  if (!text && !older.empty()) {
    used = older;
    TANDEM_ASSIGN_OR_RETURN(text, body.String(older));
  }
  if (!text) return openai::Invalid(name, "is required, for example \"{}\"", example);
  if (text->empty() || text->size() > kMaxNameBytes) {
    return openai::Invalid(used, "must have 1 to {} bytes", kMaxNameBytes);
  }
  return std::string(*text);
}

Parsed<std::string> Model(const openai::ObjectReader& body) {
  return RequiredText(body, "model", "phi-4-mini", "model_id");
}

// A model that nobody knows is the client's; a value of a field is named by the error itself.
Failure ToFailure(Error error) {
  if (error.code == ErrorCode::kNotFound) {
    return {FailureCode::kModelNotFound, std::move(error.message), "model"};
  }
  return FailureFromError(std::move(error));
}

void AppendTexts(std::string_view name, const std::vector<std::string>& texts, std::string* out) {
  *out += fmt::format("\"{}\":[", name);
  for (const std::string& text : texts) {
    if (&text != &texts.front()) *out += ',';
    openai::AppendJsonString(text, out);
  }
  *out += ']';
}

void AppendText(std::string_view name, std::string_view text, std::string* out) {
  *out += fmt::format("\"{}\":", name);
  openai::AppendJsonString(text, out);
}

// null where nothing is known.
void AppendNumber(std::string_view name, const std::optional<uint64_t>& number, std::string* out) {
  *out += number ? fmt::format("\"{}\":{}", name, *number) : fmt::format("\"{}\":null", name);
}

std::string Render(const DeviceAdvisor::Compatibility& c) {
  std::string out = fmt::format("{{\"compatible\":{},", c.compatible);
  AppendText("model", c.model, &out);
  out += ',';
  if (c.variant.empty()) {
    out += "\"variant\":null,\"quantization\":null";
  } else {
    AppendText("variant", c.variant, &out);
    out += ',';
    AppendText("quantization", c.quantization, &out);
  }
  out += ",\"requirements\":{";
  AppendNumber("min_ram_gb", c.min_ram_gb, &out);
  out += ',';
  AppendTexts("platforms", c.platforms, &out);
  out += ',';
  if (c.accelerator.empty()) {
    out += "\"accelerator\":null";
  } else {
    AppendText("accelerator", c.accelerator, &out);
  }
  out += fmt::format(",\"context_tokens\":{},", c.context_tokens);
  AppendNumber("memory_bytes", c.memory_bytes, &out);
  out += ',';
  AppendNumber("package_bytes", c.package_bytes, &out);
  out += ',';
  AppendTexts("unmet", c.unmet, &out);
  out += "},\"expected_tokens_per_second\":";
  if (c.rate) {
    out += fmt::format("{{\"expected\":{:.1f},\"low\":{:.1f},\"high\":{:.1f},", c.rate->expected,
                       c.rate->low, c.rate->high);
    AppendText("how", c.rate->how, &out);
    out += '}';
  } else {
    out += "null";
  }
  out += fmt::format(",\"deployable\":{},", c.compatible && c.not_deployable.empty());
  AppendText("deployment_note", c.not_deployable, &out);
  out += ',';
  AppendTexts("notes", c.notes, &out);
  return out + "}";
}

}  // namespace

std::expected<std::string, Failure> AnswerCompatibilityCheck(DeviceAdvisor& advisor,
                                                             std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseBody(text));
  const openai::ObjectReader body(value.get_object(), "");
  DeviceAdvisor::CompatibilityQuestion question;
  TANDEM_ASSIGN_OR_RETURN(question.model, Model(body));
  TANDEM_ASSIGN_OR_RETURN(question.device_platform,
                          RequiredText(body, "device_platform", "android"));
  TANDEM_ASSIGN_OR_RETURN(question.npu_model, RequiredText(body, "npu_model", "snapdragon_8_gen3"));
  TANDEM_ASSIGN_OR_RETURN(const auto ram_gb, body.Number("ram_gb", 0, kMaxRamGb));
  if (!ram_gb) {
    return openai::Invalid("ram_gb", "is required: the memory that is free for the model, in GB");
  }
  question.ram_gb = *ram_gb;
  TANDEM_ASSIGN_OR_RETURN(const auto context, body.Integer("context_tokens", 1, kMaxContext));
  if (context) question.context_tokens = static_cast<int32_t>(*context);
  auto checked = advisor.CheckCompatibility(question);
  if (!checked) return std::unexpected(ToFailure(std::move(checked).error()));
  return Render(*checked);
}

std::expected<std::string, Failure> AnswerNpuCompatibility(DeviceAdvisor& advisor,
                                                           std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseBody(text));
  const openai::ObjectReader body(value.get_object(), "");
  DeviceAdvisor::NpuQuestion question;
  TANDEM_ASSIGN_OR_RETURN(question.model, Model(body));
  TANDEM_ASSIGN_OR_RETURN(question.npu_vendor, RequiredText(body, "npu_vendor", "qualcomm"));
  TANDEM_ASSIGN_OR_RETURN(question.npu_driver_version,
                          RequiredText(body, "npu_driver_version", "v2.7.1"));
  TANDEM_ASSIGN_OR_RETURN(question.soc_model, RequiredText(body, "soc_model", "sm8650"));
  auto checked = advisor.CheckNpu(question);
  if (!checked) return std::unexpected(ToFailure(std::move(checked).error()));
  std::string out = fmt::format("{{\"compatible\":{},", checked->compatible);
  AppendText("model", checked->model, &out);
  out += ',';
  AppendText("reason", checked->reason, &out);
  out += ',';
  AppendText("fallback", checked->fallback, &out);
  return out + "}";
}

}  // namespace tandem::gateway
