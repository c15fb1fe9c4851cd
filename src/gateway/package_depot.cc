#include "gateway/package_depot.h"

#include <utility>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "gateway/openai/object_reader.h"

namespace tandem::gateway {
namespace {

namespace json = boost::json;

constexpr size_t kMaxBodyBytes = size_t{64} << 10;
constexpr size_t kMaxNameBytes = 256;

template <typename T>
using Parsed = std::expected<T, Failure>;

// `older` is another name of the field that counts as well.
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

}  // namespace

Parsed<PackageDepot::Question> ParseDownload(std::string_view text) {
  if (text.size() > kMaxBodyBytes) {
    return std::unexpected(Failure{
        FailureCode::kPayloadTooLarge,
        fmt::format("the body has {} bytes; at most {} are accepted", text.size(), kMaxBodyBytes)});
  }
  boost::system::error_code error;
  const json::value value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error || !value.is_object()) {
    return std::unexpected(Failure{FailureCode::kInvalidRequest, "the body must be a JSON object"});
  }
  const openai::ObjectReader body(value.get_object(), "");
  PackageDepot::Question question;
  TANDEM_ASSIGN_OR_RETURN(question.model, RequiredText(body, "model", "phi-4-mini", "model_id"));
  TANDEM_ASSIGN_OR_RETURN(question.quantization, RequiredText(body, "quantization", "int4"));
  TANDEM_ASSIGN_OR_RETURN(question.target_platform,
                          RequiredText(body, "target_platform", "android_arm64"));
  TANDEM_ASSIGN_OR_RETURN(const auto npu, body.Bool("npu_acceleration"));
  TANDEM_ASSIGN_OR_RETURN(const auto tokenizer, body.Bool("include_tokenizer"));
  question.npu = npu.value_or(false);
  question.include_tokenizer = tokenizer.value_or(true);
  return question;
}

std::string DownloadBody(const PackageDepot::Question& question,
                         const PackageDepot::Package& package, std::string_view base_url) {
  json::array files;
  uint64_t size_bytes = 0;
  for (const PackageDepot::File& file : package.files) {
    size_bytes += file.size_bytes;
    files.push_back(json::object{{"name", file.name},
                                 {"url", fmt::format("{}{}", base_url, file.path)},
                                 {"size_bytes", file.size_bytes},
                                 {"sha256", file.sha256},
                                 {"media_type", file.media_type}});
  }
  json::object body = {{"status", "ready"},
                       {"model_name", package.model},
                       {"quantization", package.quantization},
                       {"target_platform", question.target_platform},
                       {"size_mb", static_cast<double>(size_bytes) / (1 << 20)},
                       {"manifest_digest", fmt::format("sha256:{}", package.manifest_sha256)},
                       {"manifest_url", fmt::format("{}{}", base_url, package.manifest_path)},
                       {"files", std::move(files)},
                       {"signature", nullptr},
                       {"signature_key_id", nullptr}};
  if (!package.signature_hex.empty()) {
    body["signature"] = package.signature_hex;
    body["signature_key_id"] = package.key_id;
  }
  return json::serialize(body);
}

Failure DownloadFailure(const Error& error) {
  if (error.code == ErrorCode::kNotFound) {
    return {FailureCode::kModelNotFound, error.message, "model"};
  }
  if (error.code == ErrorCode::kFailedPrecondition) {
    return {FailureCode::kModelNotInstalled, error.message, error.param};
  }
  return FailureFromError(error);
}

}  // namespace tandem::gateway
