#include "engine/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "base/utf8.h"
#include "engine/tokenizer/byte_unicode.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pretokenizer.h"
#include "engine/tokenizer/stream_decoder.h"
#include "engine/tokenizer/unicode_class.h"

namespace tandem::tokenizer {
namespace {

// The flags in the published tokenizer.json of Phi-4-mini, for files that carry no flags.
struct PublishedMarker {
  std::string_view text;
  bool hidden;  // HF: special
};
constexpr std::array<PublishedMarker, 10> kPhi4MiniRstripMarkers = {{
    {"<|assistant|>", true},
    {"<|end|>", true},
    {"<|user|>", true},
    {"<|system|>", true},
    {"<|tool|>", false},
    {"<|/tool|>", false},
    {"<|tool_call|>", false},
    {"<|/tool_call|>", false},
    {"<|tool_response|>", false},
    {"<|tag|>", true},
}};
constexpr size_t kPhi4MiniDefiningMarkers = 4;  // the first ones

constexpr std::array<std::string_view, 6> kEndOfGenerationTexts = {
    "<|end|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"};

bool IsAdded(TokenType type) {
  return type == TokenType::kControl || type == TokenType::kUserDefined;
}

size_t LeadingWhiteSpace(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const utf8::Decoded decoded = utf8::DecodeOne(text.substr(at));
    if (!IsWhiteSpace(decoded.code_point)) break;
    at += decoded.length;
  }
  return at;
}

void TrimTrailingWhiteSpace(std::string* text) {
  while (!text->empty()) {
    size_t begin = text->size() - 1;
    while (begin > 0 && (static_cast<uint8_t>((*text)[begin]) & 0xC0) == 0x80) --begin;
    if (!IsWhiteSpace(utf8::DecodeOne(std::string_view(*text).substr(begin)).code_point)) return;
    text->resize(begin);
  }
}

}  // namespace

// Collects ordinary text until an added token or the end, so that pieces form across the borders of
// segments, as they do when the whole prompt is one string.
class Tokenizer::PromptEncoder {
 public:
  explicit PromptEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void Add(std::string_view text, SpecialTokens special) {
    std::string sanitized;
    if (!utf8::IsValid(text)) text = sanitized = utf8::Sanitize(text);
    if (special == SpecialTokens::kIgnore) return AddText(text);
    Split(tokenizer_.raw_added_, text, [this](std::string_view piece) {
      if (tokenizer_.normalized_added_.empty()) return AddText(piece);
      const std::string normal = tokenizer_.Normalize(std::string(piece));
      Split(tokenizer_.normalized_added_, normal, [this](std::string_view rest) { AddText(rest); });
    });
  }

  std::vector<int32_t> Finish() {
    Flush();
    return std::move(ids_);
  }

 private:
  template <typename Between>
  void Split(const AddedTokenMatcher& matcher, std::string_view text, const Between& between) {
    size_t at = 0;
    while (const auto match = matcher.Find(text, at)) {
      between(text.substr(at, match->begin - at));
      AddToken(match->flags);
      at = match->end;
    }
    between(text.substr(at));
  }

  void AddText(std::string_view text) {
    if (strip_leading_) text.remove_prefix(LeadingWhiteSpace(text));
    if (text.empty()) return;
    strip_leading_ = false;
    pending_ += text;
  }

  void AddToken(const AddedTokenFlags& flags) {
    if (flags.lstrip) TrimTrailingWhiteSpace(&pending_);
    Flush();
    ids_.push_back(flags.id);
    strip_leading_ = flags.rstrip;
  }

  void Flush() {
    const std::string text = tokenizer_.Normalize(std::exchange(pending_, {}));
    std::string_view rest = text;
    while (!rest.empty()) {
      const size_t length = FirstPieceLength(tokenizer_.tables_.kind, rest);
      tokenizer_.merger_.Encode(rest.substr(0, length), &workspace_, &ids_);
      rest.remove_prefix(length);
    }
  }

  const Tokenizer& tokenizer_;
  MergeWorkspace workspace_;
  std::string pending_;  // valid UTF-8, not yet normalised
  bool strip_leading_ = false;
  std::vector<int32_t> ids_;
};

std::string Tokenizer::Normalize(std::string text) const {
  if (tables_.kind == VocabularyKind::kQwen2) return NormalizeNfc(text);
  return text;
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, SpecialTokens special) const {
  PromptEncoder encoder(*this);
  encoder.Add(text, special);
  return encoder.Finish();
}

std::vector<int32_t> Tokenizer::EncodeSegments(std::span<const PromptSegment> segments) const {
  PromptEncoder encoder(*this);
  for (const PromptSegment& segment : segments) {
    encoder.Add(segment.text, segment.special ? SpecialTokens::kParse : SpecialTokens::kIgnore);
  }
  return encoder.Finish();
}

Result<std::string> Tokenizer::Decode(std::span<const int32_t> ids, ControlTokens control) const {
  StreamDecoder decoder(*this, control);
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= n_tokens()) {
      return Err(ErrorCode::kInvalidArgument, "id {} at position {} is not in 0..{}", ids[i], i,
                 n_tokens() - 1);
    }
    text += decoder.Push(ids[i]);
  }
  return text + decoder.Flush();
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  return id < 0 || id >= n_tokens() ? std::string_view{} : tables_.TokenBytes(id);
}

TokenType Tokenizer::Type(int32_t id) const {
  return id < 0 || id >= n_tokens() ? TokenType::kUnused : tables_.types[static_cast<size_t>(id)];
}

std::optional<int32_t> Tokenizer::FindSpecial(std::string_view text) const {
  const auto id = raw_added_.FindId(text);
  return id ? id : normalized_added_.FindId(text);
}

bool Tokenizer::IsEndOfGeneration(int32_t id) const {
  return std::ranges::binary_search(tables_.end_of_generation, id);
}

// Makes tables of a vocabulary.
class Tokenizer::Builder {
 public:
  explicit Builder(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {}

  Result<std::vector<std::byte>> Build(TokenizerOptions options) {
    TANDEM_ASSIGN_OR_RETURN(const BytePairMerger merger, BytePairMerger::Create(vocabulary_));
    merger.Describe(&tables_);
    tables_.kind = vocabulary_.kind;
    IndexTokens();
    TANDEM_RETURN_IF_ERROR(CollectAddedTokens(options));
    TANDEM_RETURN_IF_ERROR(SetSpecialIds());
    return WriteTables(tables_);
  }

 private:
  void IndexTokens();
  Status CollectAddedTokens(TokenizerOptions options);
  void ApplyPublishedFlags();
  Status SetSpecialIds();

  // The added token of this text that counts: of twins the lower id.
  AddedTokenFlags* FindAdded(std::string_view text) {
    const auto found = std::ranges::find(tables_.added, text, [this](const AddedTokenFlags& token) {
      return tables_.TokenBytes(token.id);
    });
    return found == tables_.added.end() ? nullptr : &*found;
  }

  const Vocabulary& vocabulary_;
  Tables tables_;
  std::string bytes_;
  std::vector<uint32_t> ends_;
  std::vector<TokenType> types_;
};

Result<std::shared_ptr<const Tokenizer>> Tokenizer::Create(const Vocabulary& vocabulary,
                                                           TokenizerOptions options) {
  if (vocabulary.types.size() != vocabulary.tokens.size()) {
    return Err(ErrorCode::kCorrupt, "the vocabulary has {} tokens but {} token types",
               vocabulary.tokens.size(), vocabulary.types.size());
  }
  if (vocabulary.tokens.size() > INT32_MAX || vocabulary.tokens.n_bytes() > UINT32_MAX) {
    return Err(ErrorCode::kCorrupt, "the vocabulary has {} tokens of {} bytes: too large",
               vocabulary.tokens.size(), vocabulary.tokens.n_bytes());
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::byte> image, Builder(vocabulary).Build(options));
  auto owner = std::make_shared<const std::vector<std::byte>>(std::move(image));
  const std::span<const std::byte> bytes(*owner);
  return Open(bytes, std::move(owner));
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::Open(std::span<const std::byte> bytes,
                                                         std::shared_ptr<const void> owner) {
  TANDEM_ASSIGN_OR_RETURN(Tables tables, ReadTables(bytes));
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer(bytes, std::move(owner), std::move(tables)));
  TANDEM_RETURN_IF_ERROR(tokenizer->IndexAddedTokens());
  return tokenizer;
}

Status Tokenizer::IndexAddedTokens() {
  std::vector<AddedToken> raw, normalized;
  for (const AddedTokenFlags& flags : tables_.added) {
    const std::string_view text = TokenBytes(flags.id);
    if (text.empty() || text.size() > AddedTokenMatcher::kMaxTokenBytes || !utf8::IsValid(text)) {
      return Err(ErrorCode::kCorrupt, "added token {} of {} bytes is not UTF-8 of 1 to {} bytes",
                 flags.id, text.size(), AddedTokenMatcher::kMaxTokenBytes);
    }
    (flags.normalized ? normalized : raw).push_back({std::string(text), flags});
  }
  // Of two added tokens with one text the lower id counts.
  for (auto* tokens : {&raw, &normalized}) {
    std::ranges::sort(*tokens, [](const AddedToken& a, const AddedToken& b) {
      return std::pair(std::string_view(a.text), a.flags.id) <
             std::pair(std::string_view(b.text), b.flags.id);
    });
    const auto twins = std::ranges::unique(*tokens, {}, &AddedToken::text);
    tokens->erase(twins.begin(), twins.end());
  }
  raw_added_ = AddedTokenMatcher(std::move(raw));
  normalized_added_ = AddedTokenMatcher(std::move(normalized));
  return {};
}

// An ordinary token whose spelling holds a code point that stands for no byte can come from no
// text; it decodes to its spelling, as in HF's tokenizers.
void Tokenizer::Builder::IndexTokens() {
  types_ = vocabulary_.types;
  ends_.reserve(types_.size());
  bytes_.reserve(vocabulary_.tokens.n_bytes());
  for (size_t id = 0; id < types_.size(); ++id) {
    const std::string_view text = vocabulary_.tokens[id];
    const bool spelled = types_[id] == TokenType::kNormal || types_[id] == TokenType::kByte;
    if (types_[id] != TokenType::kUnused && !(spelled && AppendBytesFromUnicode(text, &bytes_))) {
      bytes_.append(text);
    }
    ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
  tables_.bytes = bytes_;
  tables_.ends = ends_;
  tables_.types = types_;
}

Status Tokenizer::Builder::CollectAddedTokens(TokenizerOptions options) {
  std::unordered_map<int32_t, AddedTokenFlags> flags;  // a handful
  for (const AddedTokenFlags& token : vocabulary_.added.value_or(std::vector<AddedTokenFlags>{})) {
    const bool known = token.id >= 0 && token.id < tables_.n_tokens();
    if (!known || !IsAdded(types_[static_cast<size_t>(token.id)])) {
      return Err(ErrorCode::kCorrupt, "added token {} is not among the vocabulary's added tokens",
                 token.id);
    }
    flags[token.id] = token;
  }
  for (int32_t id = 0; id < tables_.n_tokens(); ++id) {
    if (!IsAdded(types_[static_cast<size_t>(id)])) continue;
    const auto found = flags.find(id);
    tables_.added.push_back(found != flags.end() ? found->second : AddedTokenFlags{.id = id});
  }
  if (!vocabulary_.added) ApplyPublishedFlags();
  if (!options.rstrip) {
    for (AddedTokenFlags& token : tables_.added) token.rstrip = false;
  }
  return {};
}

void Tokenizer::Builder::ApplyPublishedFlags() {
  if (vocabulary_.kind != VocabularyKind::kO200k) return;
  for (size_t i = 0; i < kPhi4MiniDefiningMarkers; ++i) {
    if (FindAdded(kPhi4MiniRstripMarkers[i].text) == nullptr) return;
  }
  for (const PublishedMarker& marker : kPhi4MiniRstripMarkers) {
    AddedTokenFlags* token = FindAdded(marker.text);
    if (token == nullptr) continue;
    token->rstrip = true;
    if (!marker.hidden) types_[static_cast<size_t>(token->id)] = TokenType::kUserDefined;
  }
}

Status Tokenizer::Builder::SetSpecialIds() {
  const std::pair<std::string_view, std::optional<int32_t>> named[] = {
      {"bos", vocabulary_.bos}, {"eos", vocabulary_.eos}, {"eot", vocabulary_.eot},
      {"eom", vocabulary_.eom}, {"pad", vocabulary_.pad},
  };
  for (const auto& [name, id] : named) {
    if (id && (*id < 0 || *id >= tables_.n_tokens())) {
      return Err(ErrorCode::kCorrupt, "the {} token is {}, but the vocabulary has ids 0..{}", name,
                 *id, tables_.n_tokens() - 1);
    }
  }
  tables_.bos = vocabulary_.bos;
  tables_.eos = vocabulary_.eos;
  tables_.pad = vocabulary_.pad;
  tables_.add_bos = vocabulary_.add_bos && vocabulary_.bos;
  auto& ids = tables_.end_of_generation;
  for (const auto& id : {vocabulary_.eos, vocabulary_.eot, vocabulary_.eom}) {
    if (id) ids.push_back(*id);
  }
  for (const std::string_view text : kEndOfGenerationTexts) {
    const AddedTokenFlags* token = FindAdded(text);
    if (token != nullptr && types_[static_cast<size_t>(token->id)] == TokenType::kControl) {
      ids.push_back(token->id);
    }
  }
  std::ranges::sort(ids);
  const auto twins = std::ranges::unique(ids);
  ids.erase(twins.begin(), twins.end());
  return {};
}

}  // namespace tandem::tokenizer
