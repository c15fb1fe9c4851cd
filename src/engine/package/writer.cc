#include "engine/package/writer.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <set>
#include <utility>

#include "base/utf8.h"
#include "engine/kernels/fine_plane.h"
#include "engine/package/manifest.h"
#include "os/file.h"

namespace tandem::package {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kBlockBytes = uint64_t{2} << 20;
// Made and written at a time: enough work for a few threads, little memory.
constexpr uint64_t kBatchBytes = uint64_t{8} << 20;

uint64_t RoundUp(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::span<const std::byte> AsBytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// What a tensor is made of: strips or rows.
struct Units {
  int64_t count = 0;
  uint64_t bytes = 0;  // of each
};
Units UnitsOf(const Tensor& tensor) {
  if (tensor.layout == Layout::kStrips) {
    return {kernels::StripCount(tensor.n_rows),
            static_cast<uint64_t>(kernels::StripBytes(tensor.scheme, tensor.n_cols))};
  }
  if (tensor.layout == Layout::kFine) {
    return {tensor.n_rows,
            static_cast<uint64_t>(kernels::FineRowBytes(tensor.fine_bits, tensor.n_cols))};
  }
  return {tensor.n_rows, static_cast<uint64_t>(quant::RowBytes(tensor.type, tensor.n_cols))};
}

struct FreeAligned {
  void operator()(std::byte* memory) const {
    ::operator delete[](memory, std::align_val_t(kernels::kStripAlignment));
  }
};
using Buffer = std::unique_ptr<std::byte[], FreeAligned>;

Result<Buffer> MakeBuffer(uint64_t n_bytes) {
  void* memory =
      ::operator new[](n_bytes, std::align_val_t(kernels::kStripAlignment), std::nothrow);
  if (memory == nullptr) {
    return Err(ErrorCode::kResourceExhausted, "no memory for {} bytes of a package", n_bytes);
  }
  return Buffer(static_cast<std::byte*>(memory));
}

}  // namespace

void Writer::Add(Tensor tensor, Fill fill, Place place) {
  tensors_.push_back(std::move(tensor));
  fills_.push_back(std::move(fill));
  places_.push_back(place);
}

Status Writer::PlaceTensors() {
  std::set<std::string_view> names;
  uint64_t end = kFirstOffset;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    Tensor& tensor = tensors_[i];
    if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes ||
        !utf8::IsValid(tensor.name)) {
      return Err(ErrorCode::kInvalidArgument, "a tensor's name has 1 to {} bytes of UTF-8",
                 kMaxTensorNameBytes);
    }
    if (!names.insert(tensor.name).second) {
      return Err(ErrorCode::kInvalidArgument, "two tensors are named '{}'", tensor.name);
    }
    auto n_bytes = TensorBytes(tensor);
    if (!n_bytes) return Wrap(std::move(n_bytes).error(), tensor.name);
    // A model so small that a block would be mostly gap does without.
    const bool new_block = places_[i] == Place::kNewBlock && end >= kBlockBytes;
    tensor.n_bytes = *n_bytes;
    tensor.offset = RoundUp(end, new_block ? kBlockBytes : kPageBytes);
    if (__builtin_add_overflow(tensor.offset, tensor.n_bytes, &end) || end > INT64_MAX) {
      return Err(ErrorCode::kInvalidArgument, "the tensors up to '{}' are too large for one file",
                 tensor.name);
    }
  }
  tensors_end_ = RoundUp(end, kPageBytes);
  return {};
}

Result<uint64_t> Writer::PlanBytes() {
  TANDEM_RETURN_IF_ERROR(PlaceTensors());
  return RoundUp(tensors_end_ + model_.size(), kPageBytes) + tokenizer_.size();
}

Status Writer::WriteTensor(size_t i, uint64_t total_bytes, const WriteAt& write,
                           const Options& options) {
  Tensor& tensor = tensors_[i];
  const Units units = UnitsOf(tensor);
  const int64_t batch = std::max<int64_t>(1, static_cast<int64_t>(kBatchBytes / units.bytes));
  TANDEM_ASSIGN_OR_RETURN(
      const Buffer buffer,
      MakeBuffer(static_cast<uint64_t>(std::min(batch, units.count)) * units.bytes));
  crypto::Sha256 sha256;
  QuantizationError error;
  uint64_t offset = tensor.offset;
  for (int64_t first = 0; first < units.count; first += batch) {
    if (options.stop.stop_requested()) return Err(ErrorCode::kCancelled, "packing was stopped");
    const int64_t n = std::min(batch, units.count - first);
    const std::span<std::byte> out(buffer.get(), static_cast<uint64_t>(n) * units.bytes);
    TANDEM_ASSIGN_OR_RETURN(const QuantizationError added, fills_[i](first, n, out));
    error.Add(added);
    sha256.Update(out);
    TANDEM_RETURN_IF_ERROR(write(offset, out));
    offset += out.size();
    if (options.progress) options.progress(offset, total_bytes);
  }
  tensor.sha256 = sha256.Finish();
  tensor.relative_error = error.relative();
  return {};
}

Status Writer::WriteTo(const WriteAt& write, const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(const uint64_t total_bytes, PlanBytes());
  // A reader would find the same, but by then it would be too late.
  if (auto parsed = gguf::File::Parse(model_, "the model's keys"); !parsed) {
    return Err(ErrorCode::kInvalidArgument, "{}", parsed.error().message);
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (Status status = WriteTensor(i, total_bytes, write, options); !status) {
      return Wrap(std::move(status).error(), fmt::format("tensor {}", tensors_[i].name));
    }
  }
  Manifest manifest{.tensors = tensors_, .model = {}, .tokenizer = {}};
  uint64_t end = tensors_end_;
  const auto write_part = [&](std::span<const std::byte> bytes) -> Result<Part> {
    Part part{.offset = RoundUp(end, kPageBytes), .n_bytes = bytes.size(), .sha256 = {}};
    crypto::Sha256 sha256;
    sha256.Update(bytes);
    part.sha256 = sha256.Finish();
    TANDEM_RETURN_IF_ERROR(write(part.offset, bytes));
    end = part.offset + part.n_bytes;
    return part;
  };
  TANDEM_ASSIGN_OR_RETURN(manifest.model, write_part(model_));
  if (!tokenizer_.empty()) {
    TANDEM_ASSIGN_OR_RETURN(manifest.tokenizer, write_part(tokenizer_));
  }
  const std::string text = FormatManifest(manifest);
  if (text.size() > kMaxManifestBytes) {
    return Err(ErrorCode::kInvalidArgument, "{} tensors are more than a package can name",
               tensors_.size());
  }
  TANDEM_ASSIGN_OR_RETURN(const Part part, write_part(AsBytes(text)));
  const std::string header = FormatHeader({.file_bytes = end,
                                           .manifest_offset = part.offset,
                                           .manifest_bytes = part.n_bytes,
                                           .manifest_sha256 = part.sha256});
  return write(0, AsBytes(header));
}

Status Writer::Finish(const std::filesystem::path& path, const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(const uint64_t n_bytes, PlanBytes());
  if (const auto free = os::FreeDiskBytes(path); free && *free < n_bytes) {
    return Err(
        ErrorCode::kResourceExhausted,
        "'{}' would have {} bytes and there is room for {}: free some, or write it elsewhere",
        path.string(), n_bytes, *free);
  }
  const std::filesystem::path temporary = fmt::format("{}.{}.partial", path.string(), ::getpid());
  TANDEM_ASSIGN_OR_RETURN(auto file,
                          os::OutputFile::Open(temporary, os::OutputFile::Mode::kTruncate));
  const auto finish = [&]() -> Status {
    TANDEM_RETURN_IF_ERROR(
        WriteTo([&](uint64_t offset,
                    std::span<const std::byte> bytes) { return file.WriteAt(offset, bytes); },
                options));
    TANDEM_RETURN_IF_ERROR(file.Sync());
    TANDEM_RETURN_IF_ERROR(file.Close());
    std::error_code error;
    std::filesystem::rename(temporary, path, error);
    if (error) {
      return ErrnoError(error.value(),
                        fmt::format("renaming '{}' to '{}'", temporary.string(), path.string()));
    }
    return {};
  };
  if (Status status = finish(); !status) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    return status;
  }
  return os::SyncDirectory(path.has_parent_path() ? path.parent_path() : ".");
}

Result<std::vector<std::byte>> Writer::FinishInMemory() {
  std::vector<std::byte> bytes;
  TANDEM_RETURN_IF_ERROR(WriteTo(
      [&](uint64_t offset, std::span<const std::byte> piece) -> Status {
        bytes.resize(std::max<size_t>(bytes.size(), offset + piece.size()));
        std::memcpy(bytes.data() + offset, piece.data(), piece.size());
        return {};
      },
      {}));
  return bytes;
}

}  // namespace tandem::package
