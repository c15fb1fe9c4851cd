#include "engine/safetensors/checkpoint.h"

#include <algorithm>
#include <set>
#include <utility>

#include <boost/json.hpp>

namespace tandem::safetensors {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

// The index of a model with 100,000 tensors has about 10 MB.
constexpr size_t kMaxIndexBytes = size_t{64} << 20;
constexpr size_t kMaxFiles = 10'000;

// tensor -> file
using WeightMap = std::map<std::string, std::string, std::less<>>;

// A plain file name, so that an index cannot point out of its folder.
bool IsShardName(std::string_view name) {
  constexpr std::string_view kSuffix = ".safetensors";
  return name.size() > kSuffix.size() && name.ends_with(kSuffix) && !name.starts_with('.') &&
         std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

Result<WeightMap> ReadIndex(const fs::path& path) {
  const std::string name = path.string();
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(path, kMaxIndexBytes));
  boost::system::error_code error;
  json::monotonic_resource memory;
  const json::value document = json::parse(text, error, &memory);
  const json::object* root = error ? nullptr : document.if_object();
  const json::value* value = root == nullptr ? nullptr : root->if_contains("weight_map");
  const json::object* entries = value == nullptr ? nullptr : value->if_object();
  if (entries == nullptr || entries->empty()) {
    return Err(ErrorCode::kCorrupt, "{}: not an index of safetensors files: 'weight_map' is {}",
               name, error ? error.message() : "missing, empty or no object");
  }
  WeightMap map;
  for (const auto& [key, file] : *entries) {
    const json::string* shard = file.if_string();
    if (shard == nullptr || !IsShardName({shard->data(), shard->size()})) {
      return Err(ErrorCode::kCorrupt,
                 "{}: 'weight_map' of tensor {} is not the name of a .safetensors file beside it",
                 name, std::string_view(key.data(), key.size()).substr(0, 255));
    }
    map.emplace(std::string(key.data(), key.size()), std::string(shard->data(), shard->size()));
  }
  return map;
}

Result<WeightMap> FindIndex(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / kIndexName, ignored)) return ReadIndex(folder / kIndexName);
  if (fs::exists(folder / kSingleName, ignored)) return WeightMap{};
  return Err(ErrorCode::kNotFound, "{}: neither {} nor {} is there", folder.string(), kIndexName,
             kSingleName);
}

Result<std::vector<fs::path>> FilesOf(const fs::path& folder, const WeightMap& map) {
  if (map.empty()) return std::vector{folder / kSingleName};
  std::set<std::string_view> names;
  for (const auto& entry : map) names.insert(entry.second);
  if (names.size() > kMaxFiles) {
    return Err(ErrorCode::kCorrupt, "{}: {} files; expected at most {}",
               (folder / kIndexName).string(), names.size(), kMaxFiles);
  }
  std::vector<fs::path> files;
  for (const std::string_view name : names) files.push_back(folder / name);
  return files;
}

}  // namespace

Result<std::vector<fs::path>> CheckpointFiles(const fs::path& folder) {
  TANDEM_ASSIGN_OR_RETURN(const WeightMap map, FindIndex(folder));
  return FilesOf(folder, map);
}

Result<Checkpoint> Checkpoint::Open(const fs::path& folder) {
  TANDEM_ASSIGN_OR_RETURN(const WeightMap map, FindIndex(folder));
  TANDEM_ASSIGN_OR_RETURN(const std::vector<fs::path> files, FilesOf(folder, map));
  Checkpoint checkpoint;
  for (const fs::path& path : files) {
    auto opened = File::Open(path);
    if (!opened) {
      return Wrap(std::move(opened).error(), fmt::format("weights in {}", folder.string()));
    }
    for (const Tensor& tensor : opened->tensors()) {
      const auto entry = map.find(tensor.name);
      const bool elsewhere = entry != map.end() && path.filename() != entry->second;
      if (elsewhere || !checkpoint.tensors_.emplace(tensor.name, tensor).second) {
        return Err(ErrorCode::kCorrupt, "{}: tensor {} should be in another file", path.string(),
                   tensor.name);
      }
    }
    checkpoint.n_bytes_ += opened->n_bytes();
    checkpoint.mappings_.push_back(*std::move(*opened).TakeMapping());
  }
  for (const auto& [name, file] : map) {
    if (checkpoint.tensors_.contains(name)) continue;
    return Err(ErrorCode::kCorrupt, "{}: tensor {} is missing; the index promises it",
               (folder / file).string(), name);
  }
  return checkpoint;
}

}  // namespace tandem::safetensors
