// API keys, access tokens and private keys.
#include <array>
#include <cmath>
#include <string>

#include "gateway/privacy/ascii.h"
#include "gateway/privacy/finders.h"
#include "gateway/privacy/folded_text.h"

namespace tandem::gateway::privacy {
namespace {

using ascii::IsAlnum;
using ascii::IsDigit;
using ascii::IsHex;
using ascii::IsKeyByte;
using ascii::IsLower;
using ascii::IsUpper;

struct IssuerPrefix {
  std::string_view prefix;
  size_t min_tail;  // characters behind it
};

// Long prefixes need less behind them. Source: the issuers' documentation and secret scanners.
constexpr IssuerPrefix kIssuers[] = {
    {"sk-", 20},      {"sk_live_", 10},
    {"sk_test_", 10}, {"rk_live_", 10},
    {"rk_test_", 10}, {"pk_live_", 10},
    {"whsec_", 16},   {"tdm_live_", 10},
    {"AKIA", 16},     {"ASIA", 16},
    {"ghp_", 30},     {"gho_", 30},
    {"ghu_", 30},     {"ghs_", 30},
    {"ghr_", 30},     {"github_pat_", 20},
    {"glpat-", 16},   {"xoxb-", 10},
    {"xoxp-", 10},    {"xoxa-", 10},
    {"xoxr-", 10},    {"xoxs-", 10},
    {"xoxe-", 10},    {"xapp-", 10},
    {"hf_", 30},      {"AIza", 30},
    {"ya29.", 20},    {"SG.", 30},
    {"npm_", 30},     {"pypi-", 30},
    {"dop_v1_", 32},  {"shpat_", 24},
    {"gsk_", 30},     {"AGE-SECRET-KEY-1", 40},
};

// Words that say that what follows is secret, in the seven languages and in source code.
constexpr std::string_view kKeyWordList[] = {
    "key",      "keys",          "apikey", "token",      "tokens",     "secret",      "secrets",
    "password", "passwd",        "pwd",    "passphrase", "credential", "credentials", "bearer",
    "auth",     "authorization", "clave",  "contraseña", "schlüssel",  "schluessel",  "passwort",
    "kennwort", "kunci",         "sandi",  "khóa",       "mật khẩu",   "รหัส",         "คีย์",
    "โทเค",     "密钥",          "密鑰",   "密碼",       "密码",       "令牌",        "口令"};
constexpr ascii::WordSet kKeyWords(kKeyWordList);

constexpr size_t kContextBytes = 40;  // how far such a word may stand before the run
constexpr size_t kMinRandomBytes = 16;
constexpr std::string_view kPemBegin = "-----BEGIN ";
constexpr std::string_view kPemEnd = "-----END ";

// Shannon's entropy of the bytes, in bits each.
double EntropyBits(std::string_view text) {
  std::array<size_t, 256> counts{};
  for (const char c : text) ++counts[static_cast<unsigned char>(c)];
  double bits = 0;
  for (const size_t count : counts) {
    if (count == 0) continue;
    const double share = static_cast<double>(count) / static_cast<double>(text.size());
    bits -= share * std::log2(share);
  }
  return bits;
}

// Whether a run looks drawn at random rather than written: an identifier or a path changes between
// digits, capitals and small letters now and then, a key nearly everywhere.
bool LooksRandom(std::string_view run) {
  if (run.size() < kMinRandomBytes || EntropyBits(run) < 2.8) return false;
  size_t n_digits = 0;
  size_t n_changes = 0;
  bool hex = true;
  bool upper = false;
  bool lower = false;
  int last = -1;
  for (const char c : run) {
    hex &= IsHex(c) || c == '-';
    if (!IsAlnum(c)) continue;
    const int type = IsDigit(c) ? 0 : IsUpper(c) ? 1 : 2;
    n_digits += type == 0 ? 1 : 0;
    upper |= type == 1;
    lower |= type == 2;
    n_changes += type != last && last >= 0 ? 1 : 0;
    last = type;
  }
  if (n_digits == 0 || (!upper && !lower)) return false;
  if (hex) return n_digits * 10 >= run.size();
  if (upper && lower) return n_changes * 5 >= run.size() * 2;
  return n_digits >= 3 && n_changes * 4 >= run.size();
}

// Length of the issuer's key at the front of `run`, 0 for none.
// Where it is none only because its
// letters are all small, `*plain_until` is moved to where they end; the run begins at `offset`.
size_t IssuerKeyLength(std::string_view run, size_t* plain_until, size_t offset) {
  for (const IssuerPrefix& issuer : kIssuers) {
    if (!run.starts_with(issuer.prefix)) continue;
    size_t end = issuer.prefix.size();
    bool digit = false;
    bool upper = false;
    const bool dots = issuer.prefix.ends_with('.');
    while (end < run.size() &&
           (IsAlnum(run[end]) || run[end] == '_' || run[end] == '-' || (dots && run[end] == '.'))) {
      digit |= IsDigit(run[end]);
      upper |= IsUpper(run[end]);
      ++end;
    }
    // "sk-learn-and-other-packages" is a name.
    if (end - issuer.prefix.size() < issuer.min_tail) continue;
    if (digit || upper) return end;
    *plain_until = offset + end;
  }
  return 0;
}

// Length of the JSON Web Token at the front of `run`, 0 for none: header.payload.signature in
// base64url, the header being a JSON object ("eyJ" is '{"').
size_t JwtLength(std::string_view run) {
  if (!run.starts_with("eyJ")) return 0;
  int n_dots = 0;
  size_t part = 0;
  size_t end = 0;
  for (; end < run.size(); ++end) {
    const char c = run[end];
    if (c == '.') {
      if (n_dots == 2 || part < 4) break;
      ++n_dots;
      part = 0;
    } else if (IsAlnum(c) || c == '_' || c == '-') {
      ++part;
    } else {
      break;
    }
  }
  return n_dots == 2 ? end : 0;
}

// Where the private key whose armour begins at `begin` ends; npos where it is none (a certificate,
// a public key). Without an end line everything that could belong to it does. `*no_end_from`: there
// is no end line from there on.
size_t PemEnd(std::string_view text, size_t begin, size_t* no_end_from) {
  const size_t label = begin + kPemBegin.size();
  size_t label_end = label;
  while (label_end < text.size() && label_end - label < 64 &&
         (IsUpper(text[label_end]) || IsDigit(text[label_end]) || text[label_end] == ' ')) {
    ++label_end;
  }
  if (text.substr(label, label_end - label).find("PRIVATE KEY") == text.npos) return text.npos;
  if (label_end < *no_end_from) {
    const size_t end = text.find(kPemEnd, label_end);
    const size_t dashes = end == text.npos ? end : text.find("-----", end + kPemEnd.size());
    if (dashes != text.npos) return dashes + 5;
    *no_end_from = label_end;
  }
  size_t end = label_end;
  while (end < text.size() &&
         (IsKeyByte(text[end]) || text[end] == ' ' || text[end] == '\n' || text[end] == '\r' ||
          text[end] == '\\' || text[end] == ':' || text[end] == ',')) {
    ++end;
  }
  return end;
}

bool BehindKeyWord(std::string_view text, size_t begin) {
  const size_t from = begin > kContextBytes ? begin - kContextBytes : 0;
  return kKeyWords.IsIn(text.substr(from, begin - from));
}

void FindPemKeys(std::string_view text, std::vector<SecretSpan>* found) {
  size_t no_end_from = text.npos;
  for (size_t at = text.find(kPemBegin); at != text.npos; at = text.find(kPemBegin, at)) {
    const size_t end = PemEnd(text, at, &no_end_from);
    if (end != text.npos) found->push_back({at, end, SecretKind::kKey});
    at = end != text.npos ? end : at + kPemBegin.size();
  }
}

// Keys that can be told by how they begin, in the run [begin, end) of key bytes. True where there
// was one.
bool FindIssuedKeys(std::string_view text, size_t begin, size_t end,
                    std::vector<SecretSpan>* found) {
  bool any = false;
  size_t plain_until = begin;  // no digit or capital before it
  while (begin < end) {
    if (!IsAlnum(text[begin])) {
      ++begin;
      continue;
    }
    const std::string_view run = text.substr(begin, end - begin);
    const char before = begin > 0 ? text[begin - 1] : ' ';
    size_t length = begin >= plain_until ? IssuerKeyLength(run, &plain_until, begin) : 0;
    // Not from inside a longer word of the same letters, so that each byte is read a few times
    // only.
    if (length == 0 && before != '-' && before != '_') length = JwtLength(run);
    if (length > 0) {
      found->push_back({begin, begin + length, SecretKind::kKey});
      any = true;
      begin += length;
      continue;
    }
    while (begin < end && IsAlnum(text[begin])) ++begin;  // to the next place where one could begin
  }
  return any;
}

// Random-looking parts of the run [begin, end) right behind a word such as "token".
void FindKeysByContext(std::string_view text, size_t begin, size_t end,
                       std::vector<SecretSpan>* found) {
  while (begin < end) {
    // "token=..." is one run; '=' inside it ends a name, at its end it is padding.
    size_t part = begin;
    while (part < end && !(text[part] == '=' && part + 1 < end && IsAlnum(text[part + 1]))) ++part;
    size_t first = begin;
    while (first < part && !IsAlnum(text[first])) ++first;
    size_t last = part;
    while (last > first && !IsAlnum(text[last - 1]) && text[last - 1] != '=') --last;
    if (LooksRandom(text.substr(first, last - first)) && BehindKeyWord(text, first)) {
      found->push_back({first, last, SecretKind::kKey, true});
    }
    begin = part + 1;
  }
}

}  // namespace

void FindKeys(std::string_view text, std::vector<SecretSpan>* found) {
  FindPemKeys(text, found);
  for (size_t i = 0; i < text.size(); ++i) {
    if (!IsKeyByte(text[i])) continue;
    size_t end = i;
    while (end < text.size() && IsKeyByte(text[end])) ++end;
    if (end - i >= kMinRandomBytes && !FindIssuedKeys(text, i, end, found)) {
      FindKeysByContext(text, i, end, found);
    }
    i = end;
  }
}

}  // namespace tandem::gateway::privacy
