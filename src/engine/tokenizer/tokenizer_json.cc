#include "engine/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <string>
#include <vector>

#include <boost/json.hpp>

namespace tandem::tokenizer {
namespace {

namespace json = boost::json;

// The texts of the two patterns that pretokenizer.h implements.
constexpr std::string_view kO200kPattern =
    R"re([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr std::string_view kQwen2Pattern =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";

// Ids may have gaps (padding rows), but a few bytes of JSON must not cost gigabytes of table.
constexpr int64_t kMaxGapTokens = 65536;

std::string_view View(const json::string& s) { return {s.data(), s.size()}; }

const json::value* Find(const json::object& object, std::string_view key) {
  return object.if_contains(key);
}

Result<const json::object*> RequireObject(const json::object& parent, std::string_view key) {
  const json::value* value = Find(parent, key);
  const json::object* object = value == nullptr ? nullptr : value->if_object();
  if (object == nullptr) {
    return Err(ErrorCode::kCorrupt, "tokenizer.json: '{}' is missing or not an object", key);
  }
  return object;
}

std::string_view StringOr(const json::object& object, std::string_view key,
                          std::string_view otherwise) {
  const json::value* value = Find(object, key);
  const json::string* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? otherwise : View(*text);
}

bool IsTrue(const json::object& object, std::string_view key) {
  const json::value* value = Find(object, key);
  return value != nullptr && value->is_bool() && value->get_bool();
}

// Sequence [Split by a known pattern, ByteLevel].
Result<VocabularyKind> ReadPretokenizer(const json::object& root) {
  TANDEM_ASSIGN_OR_RETURN(const json::object* pretokenizer, RequireObject(root, "pre_tokenizer"));
  const json::value* list = Find(*pretokenizer, "pretokenizers");
  const json::array* steps = list == nullptr ? nullptr : list->if_array();
  if (steps == nullptr || steps->size() != 2 || !(*steps)[0].is_object() ||
      !(*steps)[1].is_object()) {
    return Err(ErrorCode::kUnsupported,
               "tokenizer.json: 'pre_tokenizer' is not the sequence of Split and ByteLevel that "
               "o200k and qwen2 tokenizers have");
  }
  const json::object& split = (*steps)[0].get_object();
  const json::object& bytes = (*steps)[1].get_object();
  if (StringOr(split, "type", "") != "Split" || StringOr(bytes, "type", "") != "ByteLevel" ||
      IsTrue(bytes, "add_prefix_space") || IsTrue(bytes, "use_regex")) {
    return Err(
        ErrorCode::kUnsupported,
        "tokenizer.json: 'pre_tokenizer' must be Split, then ByteLevel without a prefix space "
        "and without a pattern of its own");
  }
  TANDEM_ASSIGN_OR_RETURN(const json::object* pattern, RequireObject(split, "pattern"));
  const std::string_view regex = StringOr(*pattern, "Regex", "");
  if (regex == kO200kPattern) return VocabularyKind::kO200k;
  if (regex == kQwen2Pattern) return VocabularyKind::kQwen2;
  return Err(ErrorCode::kUnsupported,
             "tokenizer.json: the Split pattern is neither o200k's nor qwen2's: {}",
             regex.substr(0, 200));
}

Status CheckNormalizer(const json::object& root, VocabularyKind kind) {
  const json::value* value = Find(root, "normalizer");
  const bool none = value == nullptr || value->is_null();
  const bool nfc =
      !none && value->is_object() && StringOr(value->get_object(), "type", "") == "NFC";
  if (kind == VocabularyKind::kO200k ? none : nfc) return {};
  return Err(ErrorCode::kUnsupported,
             "tokenizer.json: 'normalizer' must be {} with this pre-tokenizer",
             kind == VocabularyKind::kO200k ? "null" : "NFC");
}

struct Entry {
  std::string_view text;  // in the document
  TokenType type = TokenType::kUnused;
};

Result<int64_t> ReadId(const json::value* value, int64_t limit, std::string_view where,
                       std::string_view what) {
  const int64_t* id = value == nullptr ? nullptr : value->if_int64();
  if (id == nullptr || *id < 0 || *id >= limit) {
    return Err(ErrorCode::kCorrupt, "tokenizer.json: {} '{}' has no id in 0..{}", where,
               what.substr(0, 64), limit - 1);
  }
  return *id;
}

Status ReadVocab(const json::object& vocab, int64_t limit, std::vector<Entry>* entries) {
  for (const auto& pair : vocab) {
    const std::string_view text(pair.key().data(), pair.key().size());
    TANDEM_ASSIGN_OR_RETURN(const int64_t id, ReadId(&pair.value(), limit, "model.vocab", text));
    if (static_cast<size_t>(id) >= entries->size()) entries->resize(static_cast<size_t>(id) + 1);
    Entry& entry = (*entries)[static_cast<size_t>(id)];
    if (entry.type != TokenType::kUnused) {
      return Err(ErrorCode::kCorrupt, "tokenizer.json: model.vocab gives id {} to '{}' and '{}'",
                 id, entry.text.substr(0, 64), text.substr(0, 64));
    }
    entry = {text, TokenType::kNormal};
  }
  return {};
}

Status ReadAddedTokens(const json::array& added, int64_t limit, std::vector<Entry>* entries,
                       std::vector<AddedTokenFlags>* flags) {
  for (size_t i = 0; i < added.size(); ++i) {
    const json::object* token = added[i].if_object();
    const std::string_view text = token == nullptr ? "" : StringOr(*token, "content", "");
    if (text.empty()) {
      return Err(ErrorCode::kCorrupt, "tokenizer.json: added_tokens[{}] has no 'content'", i);
    }
    TANDEM_ASSIGN_OR_RETURN(const int64_t id,
                            ReadId(Find(*token, "id"), limit, "added token", text));
    if (static_cast<size_t>(id) >= entries->size()) entries->resize(static_cast<size_t>(id) + 1);
    Entry& entry = (*entries)[static_cast<size_t>(id)];
    if (entry.type != TokenType::kUnused && entry.text != text) {
      return Err(ErrorCode::kCorrupt, "tokenizer.json: added token '{}' has the id {} of '{}'",
                 text.substr(0, 64), id, entry.text.substr(0, 64));
    }
    entry = {text, IsTrue(*token, "special") ? TokenType::kControl : TokenType::kUserDefined};
    flags->push_back({.id = static_cast<int32_t>(id),
                      .lstrip = IsTrue(*token, "lstrip"),
                      .rstrip = IsTrue(*token, "rstrip"),
                      .single_word = IsTrue(*token, "single_word"),
                      .normalized = IsTrue(*token, "normalized")});
  }
  return {};
}

Status ReadMerges(const json::array& merges, FlatStrings* lines) {
  std::string line;
  for (size_t i = 0; i < merges.size(); ++i) {
    if (const json::string* text = merges[i].if_string()) {
      lines->Append(View(*text));
      continue;
    }
    const json::array* pair = merges[i].if_array();
    const bool two =
        pair != nullptr && pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string();
    if (!two) {
      return Err(ErrorCode::kCorrupt,
                 "tokenizer.json: model.merges[{}] is neither \"left right\" nor [\"left\", "
                 "\"right\"]",
                 i);
    }
    const std::string_view left = View((*pair)[0].get_string());
    if (left.empty() || left.find(' ', 1) != std::string_view::npos) {
      return Err(
          ErrorCode::kCorrupt,
          "tokenizer.json: the left side of model.merges[{}] is empty or holds a space, which "
          "no byte-level token does",
          i);
    }
    line.assign(left).append(" ").append(View((*pair)[1].get_string()));
    lines->Append(line);
  }
  return {};
}

}  // namespace

Result<Vocabulary> VocabularyFromTokenizerJson(std::string_view text) {
  boost::system::error_code error;
  json::monotonic_resource memory;
  const json::value document = json::parse({text.data(), text.size()}, error, &memory);
  if (error) {
    return Err(ErrorCode::kCorrupt, "tokenizer.json is not JSON: {}", error.message());
  }
  const json::object* root = document.if_object();
  if (root == nullptr) return Err(ErrorCode::kCorrupt, "tokenizer.json is not a JSON object");
  TANDEM_ASSIGN_OR_RETURN(const json::object* model, RequireObject(*root, "model"));
  if (StringOr(*model, "type", "BPE") != "BPE" || IsTrue(*model, "byte_fallback") ||
      IsTrue(*model, "ignore_merges") ||
      !StringOr(*model, "continuing_subword_prefix", "").empty() ||
      !StringOr(*model, "end_of_word_suffix", "").empty()) {
    return Err(ErrorCode::kUnsupported,
               "tokenizer.json: 'model' is not plain byte-level BPE (type BPE without "
               "byte_fallback, ignore_merges, prefixes and suffixes)");
  }
  Vocabulary vocabulary;
  TANDEM_ASSIGN_OR_RETURN(vocabulary.kind, ReadPretokenizer(*root));
  TANDEM_RETURN_IF_ERROR(CheckNormalizer(*root, vocabulary.kind));

  TANDEM_ASSIGN_OR_RETURN(const json::object* vocab, RequireObject(*model, "vocab"));
  const json::value* added_value = Find(*root, "added_tokens");
  const json::array* added = added_value == nullptr ? nullptr : added_value->if_array();
  const json::value* merges_value = Find(*model, "merges");
  const json::array* merges = merges_value == nullptr ? nullptr : merges_value->if_array();
  if (merges == nullptr) {
    return Err(ErrorCode::kCorrupt, "tokenizer.json: 'model.merges' is missing or not an array");
  }

  const int64_t limit =
      static_cast<int64_t>(vocab->size() + (added == nullptr ? 0 : added->size())) + kMaxGapTokens;
  std::vector<Entry> entries;
  TANDEM_RETURN_IF_ERROR(ReadVocab(*vocab, limit, &entries));
  vocabulary.added.emplace();
  if (added != nullptr) {
    TANDEM_RETURN_IF_ERROR(ReadAddedTokens(*added, limit, &entries, &*vocabulary.added));
  }
  for (const Entry& entry : entries) {
    vocabulary.tokens.Append(entry.text);
    vocabulary.types.push_back(entry.type);
  }
  TANDEM_RETURN_IF_ERROR(ReadMerges(*merges, &vocabulary.merges));
  return vocabulary;
}

}  // namespace tandem::tokenizer
