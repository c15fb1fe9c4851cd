#include "engine/package/file.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "engine/package/manifest.h"

namespace tandem::package {
namespace {

// Bytes that Verify hashes between two looks at the stop token.
constexpr uint64_t kVerifyBytes = uint64_t{4} << 20;

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads a file's parts from front to back, counting.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::function<void(uint64_t, uint64_t)>& progress,
         const std::stop_token& stop)
      : bytes_(bytes), progress_(progress), stop_(stop) {}

  // What stands before `offset` and belongs to no part.
  Status Gap(uint64_t offset) {
    return Take(offset - at_, [&](std::span<const std::byte> piece) -> Status {
      if (std::ranges::all_of(piece, [](std::byte byte) { return byte == std::byte{0}; })) {
        return {};
      }
      return Err(ErrorCode::kCorrupt, "there are bytes that belong to nothing before offset {}",
                 offset);
    });
  }

  Status Part(std::string_view what, uint64_t offset, uint64_t n_bytes,
              const crypto::Digest& expected) {
    TANDEM_RETURN_IF_ERROR(Gap(offset));
    crypto::Sha256 sha256;
    TANDEM_RETURN_IF_ERROR(Take(n_bytes, [&](std::span<const std::byte> piece) -> Status {
      sha256.Update(piece);
      return {};
    }));
    if (sha256.Finish() == expected) return {};
    return Err(ErrorCode::kCorrupt,
               "{} does not have the digest that the manifest states: the file is damaged; pack or "
               "download it again",
               what);
  }

  void Skip(uint64_t n_bytes) { at_ += n_bytes; }

 private:
  template <typename Use>
  Status Take(uint64_t n_bytes, const Use& use) {
    const uint64_t end = at_ + n_bytes;
    while (at_ < end) {
      if (stop_.stop_requested()) return Err(ErrorCode::kCancelled, "the check was stopped");
      const uint64_t n = std::min(kVerifyBytes, end - at_);
      TANDEM_RETURN_IF_ERROR(use(bytes_.subspan(at_, n)));
      at_ += n;
      if (progress_) progress_(at_, bytes_.size());
    }
    return {};
  }

  const std::span<const std::byte> bytes_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  const std::stop_token& stop_;
  uint64_t at_ = 0;
};

}  // namespace

std::string_view Tensor::type_name() const {
  switch (layout) {
    case Layout::kStrips:
      return kernels::GetScheme(scheme).name;
    case Layout::kRows:
      return quant::GetType(type).name;
    case Layout::kFine:
      return FineTypeName(fine_bits);
  }
  return {};
}

File::~File() = default;

Result<std::shared_ptr<const File>> File::Open(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(os::MappedFile mapping, os::MappedFile::Open(path));
  std::shared_ptr<File> file(new File());
  file->mapping_ = std::move(mapping);
  if (Status status = file->Read(file->mapping_->bytes(), path.string()); !status) {
    return Wrap(std::move(status).error(), path.string());
  }
  return file;
}

Result<std::shared_ptr<const File>> File::Parse(std::span<const std::byte> bytes,
                                                std::string_view name) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kernels::kStripAlignment != 0) {
    return Err(ErrorCode::kInvalidArgument, "{}: the bytes of a package must be aligned to {}",
               name, kernels::kStripAlignment);
  }
  std::shared_ptr<File> file(new File());
  if (Status status = file->Read(bytes, name); !status) {
    return Wrap(std::move(status).error(), name);
  }
  return file;
}

Status File::Read(std::span<const std::byte> bytes, std::string_view name) {
  bytes_ = bytes;
  name_ = name;
  TANDEM_ASSIGN_OR_RETURN(const Header header, ParseHeader(bytes));
  const std::string_view text =
      AsText(bytes.subspan(header.manifest_offset, header.manifest_bytes));
  digest_ = crypto::Sha256Of(text);
  if (digest_ != header.manifest_sha256) {
    return Err(ErrorCode::kCorrupt,
               "its manifest is damaged: the digest is not the one in the header");
  }
  TANDEM_ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(text, header.manifest_offset));
  manifest_ = std::make_unique<const Manifest>(std::move(manifest));

  tensors_ = manifest_->tensors;
  for (Tensor& tensor : tensors_) tensor.data = bytes.data() + tensor.offset;
  TANDEM_RETURN_IF_ERROR(IndexNames());
  if (manifest_->tokenizer) {
    tokenizer_ = bytes.subspan(manifest_->tokenizer->offset, manifest_->tokenizer->n_bytes);
  }
  TANDEM_ASSIGN_OR_RETURN(
      model_, gguf::File::Parse(bytes.subspan(manifest_->model.offset, manifest_->model.n_bytes),
                                "the model's keys"));
  return {};
}

Status File::IndexNames() {
  names_in_order_.resize(tensors_.size());
  std::iota(names_in_order_.begin(), names_in_order_.end(), size_t{0});
  const auto name_of = [this](size_t i) { return std::string_view(tensors_[i].name); };
  std::ranges::sort(names_in_order_, {}, name_of);
  const auto twin = std::ranges::adjacent_find(names_in_order_, {}, name_of);
  if (twin == names_in_order_.end()) return {};
  return Err(ErrorCode::kCorrupt, "two tensors are named '{}'", name_of(*twin));
}

const Tensor* File::Find(std::string_view name) const {
  const auto name_of = [this](size_t i) { return std::string_view(tensors_[i].name); };
  const auto it = std::ranges::lower_bound(names_in_order_, name, {}, name_of);
  return it == names_in_order_.end() || name_of(*it) != name ? nullptr : &tensors_[*it];
}

Status File::Verify(const std::function<void(uint64_t, uint64_t)>& progress,
                    const std::stop_token& stop) const {
  Reader reader(bytes_, progress, stop);
  const auto verify = [&]() -> Status {
    reader.Skip(kHeaderBytes);  // checked when the file was opened
    for (const Tensor& tensor : tensors_) {
      TANDEM_RETURN_IF_ERROR(reader.Part(fmt::format("tensor '{}'", tensor.name), tensor.offset,
                                         tensor.n_bytes, tensor.sha256));
    }
    const Part& model = manifest_->model;
    TANDEM_RETURN_IF_ERROR(reader.Part("the model", model.offset, model.n_bytes, model.sha256));
    if (manifest_->tokenizer) {
      const Part& tokenizer = *manifest_->tokenizer;
      TANDEM_RETURN_IF_ERROR(
          reader.Part("the tokenizer", tokenizer.offset, tokenizer.n_bytes, tokenizer.sha256));
    }
    TANDEM_ASSIGN_OR_RETURN(const Header header, ParseHeader(bytes_));
    return reader.Part("the manifest", header.manifest_offset, header.manifest_bytes, digest_);
  };
  if (Status status = verify(); !status) return Wrap(std::move(status).error(), name_);
  return {};
}

Result<bool> IsPackage(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(const os::MappedFile mapped, os::MappedFile::Open(path));
  return AsText(mapped.bytes()).starts_with(kMagic);
}

}  // namespace tandem::package
