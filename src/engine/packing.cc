#include "engine/packing.h"

#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/gguf/file.h"
#include "engine/model/huggingface.h"
#include "engine/model/model.h"
#include "engine/model/pack.h"
#include "engine/ops/thread_pool.h"
#include "engine/package/file.h"
#include "os/cpu.h"
#include "os/file.h"

namespace tandem::engine {

Result<PackSummary> Pack(const std::filesystem::path& model_path, const std::filesystem::path& to,
                         const PackOptions& options) {
  auto scheme = model::ParsePackScheme(options.scheme);
  if (!scheme) {
    scheme.error().param = "scheme";
    return std::unexpected(std::move(scheme).error());
  }
  TANDEM_ASSIGN_OR_RETURN(const bool is_package, IsPackage(model_path));
  if (is_package) {
    return Err(ErrorCode::kInvalidArgument, "'{}' is a package already", model_path.string());
  }
  TANDEM_ASSIGN_OR_RETURN(const auto file, model::IsHuggingFaceFolder(model_path)
                                               ? model::OpenHuggingFace(model_path)
                                               : gguf::File::Open(model_path));
  TANDEM_ASSIGN_OR_RETURN(const auto model, model::Model::Load(file));
  const int usable_cores = os::UsableCpuCount();
  TANDEM_ASSIGN_OR_RETURN(const auto pool,
                          ops::ThreadPool::Create(options.n_threads, usable_cores));
  TANDEM_ASSIGN_OR_RETURN(
      const model::PackReport report,
      model::Pack(*file, *model, *pool, to,
                  {.scheme = *scheme, .progress = options.progress, .stop = options.stop}));
  PackSummary summary{.tensors = {},
                      .file_bytes = report.n_bytes,
                      .bits_per_weight = report.bits_per_weight,
                      .bits_per_read_weight = report.bits_per_read_weight};
  for (const package::Tensor& tensor : report.tensors) {
    summary.tensors.push_back({.name = tensor.name,
                               .source = tensor.source,
                               .type = std::string(tensor.type_name()),
                               .n_rows = tensor.n_rows,
                               .n_cols = tensor.n_cols,
                               .n_bytes = tensor.n_bytes,
                               .relative_error = tensor.relative_error});
  }
  return summary;
}

Result<bool> IsPackage(const std::filesystem::path& path) {
  if (model::IsHuggingFaceFolder(path)) return false;
  return package::IsPackage(path);
}

bool IsModelFolder(const std::filesystem::path& path) { return model::IsHuggingFaceFolder(path); }

Result<std::string> PackageDigest(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(const auto file, package::File::Open(path));
  return file->digest_hex();
}

Status VerifyPackage(const std::filesystem::path& path,
                     const std::function<void(uint64_t, uint64_t)>& progress,
                     const std::stop_token& stop) {
  TANDEM_ASSIGN_OR_RETURN(const auto file, package::File::Open(path));
  return file->Verify(progress, stop);
}

Result<PackageDocuments> ReadPackageDocuments(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(const auto file, package::File::Open(path));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string_view> chat_template,
                          file->model()->FindString("tokenizer.chat_template"));
  const auto tokenizer = file->tokenizer();
  return PackageDocuments{
      .tokenizer = std::string(reinterpret_cast<const char*>(tokenizer.data()), tokenizer.size()),
      .chat_template = std::string(chat_template.value_or(""))};
}

Result<std::vector<std::filesystem::path>> ModelFiles(const std::filesystem::path& model) {
  if (model::IsHuggingFaceFolder(model)) return model::HuggingFaceFiles(model);
  // Only names of this form can be parts; any other file need not be parsed.
  if (model.filename().string().find("-of-") == std::string::npos) {
    return std::vector{model};
  }
  TANDEM_ASSIGN_OR_RETURN(const auto file, gguf::File::Open(model));
  std::vector<std::filesystem::path> files;
  for (const os::MappedFile& part : file->mappings()) files.push_back(part.path());
  return files;
}

}  // namespace tandem::engine
