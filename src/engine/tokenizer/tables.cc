#include "engine/tokenizer/tables.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

namespace tandem::tokenizer {
namespace {

static_assert(std::endian::native == std::endian::little, "tables are mapped, not decoded");

constexpr uint32_t kTablesVersion = 1;
constexpr size_t kBytes = 256;

// As in the file; the arrays follow in the order of the counts, then token types and bytes.
struct RawHeader {
  uint32_t version = kTablesVersion;
  uint32_t kind = 0;
  int32_t bos = -1;
  int32_t eos = -1;
  int32_t pad = -1;
  uint32_t add_bos = 0;
  uint32_t n_tokens = 0;
  uint32_t n_merges = 0;
  uint32_t n_slots = 0;
  uint32_t n_added = 0;
  uint32_t n_end_of_generation = 0;
  uint32_t n_bytes = 0;
};
static_assert(sizeof(RawHeader) == 48 && sizeof(Merge) == 12 && sizeof(TokenType) == 1);

struct RawAdded {
  int32_t id;
  uint32_t flags;
};
constexpr uint32_t kLstrip = 1, kRstrip = 2, kSingleWord = 4, kNormalized = 8;

uint32_t FlagBits(const AddedTokenFlags& flags) {
  return (flags.lstrip ? kLstrip : 0) | (flags.rstrip ? kRstrip : 0) |
         (flags.single_word ? kSingleWord : 0) | (flags.normalized ? kNormalized : 0);
}

// Takes arrays from the front of the bytes.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <typename T>
  Result<std::span<const T>> Take(uint64_t n, std::string_view what) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 4);
    if (n > rest_.size() / sizeof(T)) {
      return Err(ErrorCode::kCorrupt, "the tokenizer's tables end within {} {}", n, what);
    }
    const std::span<const T> array(reinterpret_cast<const T*>(rest_.data()), n);
    rest_ = rest_.subspan(n * sizeof(T));
    return array;
  }
  bool empty() const { return rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
};

std::unexpected<Error> Bad(std::string_view what) {
  return Err(ErrorCode::kCorrupt, "the tokenizer's {} make no sense", what);
}

Status Check(const Tables& tables) {
  const auto n_tokens = static_cast<uint32_t>(tables.ends.size());
  const auto in_range = [n_tokens](int32_t id) { return static_cast<uint32_t>(id) < n_tokens; };
  if (!std::ranges::is_sorted(tables.ends) ||
      (n_tokens > 0 && tables.ends.back() != tables.bytes.size())) {
    return Bad("token texts");
  }
  if (!std::ranges::all_of(tables.types, [](TokenType type) {
        return type >= TokenType::kNormal && type <= TokenType::kByte;
      })) {
    return Bad("token types");
  }
  if (!std::ranges::all_of(tables.byte_tokens, in_range)) return Bad("byte tokens");
  if (!std::ranges::all_of(tables.merges, [&](const Merge& merge) {
        return in_range(merge.left) && in_range(merge.right) && in_range(merge.result);
      })) {
    return Bad("merges");
  }
  const auto n_merges = static_cast<uint32_t>(tables.merges.size());
  bool any_empty = false;
  for (const uint32_t slot : tables.slots) {
    any_empty |= slot == kEmptySlot;
    if (slot != kEmptySlot && slot >= n_merges) return Bad("hash slots");
  }
  if (!any_empty || !std::has_single_bit(tables.slots.size())) return Bad("hash slots");
  if (!std::ranges::all_of(tables.added, in_range, &AddedTokenFlags::id)) {
    return Bad("added tokens");
  }
  if (!std::ranges::all_of(tables.end_of_generation, in_range) ||
      !std::ranges::is_sorted(tables.end_of_generation)) {
    return Bad("ending tokens");
  }
  for (const auto& id : {tables.bos, tables.eos, tables.pad}) {
    if (id && !in_range(*id)) return Bad("special tokens");
  }
  return {};
}

std::optional<int32_t> OptionalId(int32_t id) {
  return id == -1 ? std::nullopt : std::optional(id);
}

}  // namespace

std::vector<std::byte> WriteTables(const Tables& tables) {
  RawHeader header;
  header.kind = static_cast<uint32_t>(tables.kind);
  header.bos = tables.bos.value_or(-1);
  header.eos = tables.eos.value_or(-1);
  header.pad = tables.pad.value_or(-1);
  header.add_bos = tables.add_bos ? 1 : 0;
  header.n_tokens = static_cast<uint32_t>(tables.ends.size());
  header.n_merges = static_cast<uint32_t>(tables.merges.size());
  header.n_slots = static_cast<uint32_t>(tables.slots.size());
  header.n_added = static_cast<uint32_t>(tables.added.size());
  header.n_end_of_generation = static_cast<uint32_t>(tables.end_of_generation.size());
  header.n_bytes = static_cast<uint32_t>(tables.bytes.size());
  std::vector<RawAdded> added;
  for (const AddedTokenFlags& flags : tables.added) added.push_back({flags.id, FlagBits(flags)});

  std::vector<std::byte> out;
  const auto append = [&out](const auto& array) {
    const auto bytes = std::as_bytes(std::span(array));
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  append(std::span(&header, 1));
  append(tables.ends);
  append(tables.byte_tokens);
  append(tables.merges);
  append(tables.slots);
  append(added);
  append(tables.end_of_generation);
  append(tables.types);
  append(tables.bytes);
  return out;
}

Result<Tables> ReadTables(std::span<const std::byte> bytes) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(uint32_t) != 0) {
    return Err(ErrorCode::kInvalidArgument, "a tokenizer's tables must be aligned to 4 bytes");
  }
  Cursor cursor(bytes);
  TANDEM_ASSIGN_OR_RETURN(const auto headers, cursor.Take<RawHeader>(1, "header"));
  const RawHeader& header = headers[0];
  if (header.version != kTablesVersion) {
    return Err(ErrorCode::kUnsupported,
               "the tokenizer's tables have version {}, this Tandem reads {}; pack the model again",
               header.version, kTablesVersion);
  }
  if (header.kind > static_cast<uint32_t>(VocabularyKind::kQwen2) || header.add_bos > 1 ||
      header.n_tokens > INT32_MAX) {
    return Bad("header");
  }
  Tables tables;
  tables.kind = static_cast<VocabularyKind>(header.kind);
  tables.add_bos = header.add_bos == 1;
  tables.bos = OptionalId(header.bos);
  tables.eos = OptionalId(header.eos);
  tables.pad = OptionalId(header.pad);
  TANDEM_ASSIGN_OR_RETURN(tables.ends, cursor.Take<uint32_t>(header.n_tokens, "tokens"));
  TANDEM_ASSIGN_OR_RETURN(tables.byte_tokens, cursor.Take<int32_t>(kBytes, "bytes"));
  TANDEM_ASSIGN_OR_RETURN(tables.merges, cursor.Take<Merge>(header.n_merges, "merges"));
  TANDEM_ASSIGN_OR_RETURN(tables.slots, cursor.Take<uint32_t>(header.n_slots, "hash slots"));
  TANDEM_ASSIGN_OR_RETURN(const auto added, cursor.Take<RawAdded>(header.n_added, "added tokens"));
  for (const RawAdded& token : added) {
    tables.added.push_back({.id = token.id,
                            .lstrip = (token.flags & kLstrip) != 0,
                            .rstrip = (token.flags & kRstrip) != 0,
                            .single_word = (token.flags & kSingleWord) != 0,
                            .normalized = (token.flags & kNormalized) != 0});
  }
  TANDEM_ASSIGN_OR_RETURN(const auto ending,
                          cursor.Take<int32_t>(header.n_end_of_generation, "ending tokens"));
  tables.end_of_generation.assign(ending.begin(), ending.end());
  TANDEM_ASSIGN_OR_RETURN(tables.types, cursor.Take<TokenType>(header.n_tokens, "token types"));
  TANDEM_ASSIGN_OR_RETURN(const auto text, cursor.Take<char>(header.n_bytes, "bytes of text"));
  tables.bytes = {text.data(), text.size()};
  if (!cursor.empty()) return Bad("last bytes");
  TANDEM_RETURN_IF_ERROR(Check(tables));
  return tables;
}

}  // namespace tandem::tokenizer
