// Charter of fleet/device: what devices are: systems on a chip (SoCs) by whatever name a client
// gives them (this header), versions of their drivers, and what a probe finds on the device that it
// runs on (probe.h, bandwidth.h). It may include base, os and fleet/json. It knows no model.
//
// The database is data (data/devices.json, docs/formats/devices.md), embedded at build time. What
// is unknown stays unknown: an empty optional, never a guess.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fleet/device/driver_version.h"

namespace tandem::fleet {

// How far a figure is to be believed.
enum class Basis {
  kRead,      // in a named source
  kComputed,  // from figures in a named source
  kClaimed,   // by somebody else than the vendor
  kRecalled,  // by whoever wrote the row down, without a source
  kMeasured,  // here
  kUnknown,
};
std::string_view BasisName(Basis basis);  // "read", "computed", ...

// 4-bit weights as an accelerator takes them.
enum class Int4Weights {
  kNone,
  kChannels,  // one scale for each row of a matrix
  kSome,      // 4 bits, in which grouping is unknown
  kGroups,    // a scale for each group of a row: what Tandem's packages have
};

struct Npu {
  std::string name;                        // "Hexagon V75"
  std::optional<int32_t> generation = {};  // Qualcomm's architecture: 75
  std::optional<Int4Weights> int4_weights = {};
  std::optional<bool> third_party = {};  // others than the vendor can run their models on it
  std::optional<double> tops = {};
  std::optional<double> session_gb = {};  // that one session maps; more needs several
};

struct Soc {
  std::string name;    // "Snapdragon 8 Gen 3"
  std::string vendor;  // "qualcomm", "mediatek", "google", "samsung", "huawei", "apple"
  std::string part;    // "SM8650"
  std::vector<std::string> aliases = {};
  std::optional<uint32_t> qnn_soc_id = {};
  Npu npu;
  std::string driver_name = {};                  // "QNN SDK"; empty with min_driver
  std::optional<DriverVersion> min_driver = {};  // the least that knows this part
  std::string memory_type = {};                  // "LPDDR5X-9600"; empty: unknown
  std::optional<double> bandwidth_gb_s = {};     // of its memory, 10^9 bytes a second
  Basis bandwidth_basis = Basis::kUnknown;
  std::optional<std::pair<int32_t, int32_t>> ram_gb = {};  // that devices with it come with
  std::vector<std::string> sources = {};
  std::string note = {};
};

// What a name means. Exactly one of the three has something, or none where nothing is near.
struct SocMatch {
  const Soc* soc = nullptr;
  std::vector<const Soc*> candidates = {};  // all that the name fits
  std::vector<const Soc*> nearest = {};     // that were perhaps meant, the nearest first

  // "the SoC 'x' is unknown; did you mean ...", for a name that means none or several.
  std::string Explain(std::string_view name) const;
};

// Immutable. Thread: any.
class DeviceDatabase {
 public:
  // Reads the format of data/devices.json. Errors: kCorrupt, naming the row and the field.
  static Result<DeviceDatabase> Parse(std::string_view json);
  // The one that this program was built with.
  static const DeviceDatabase& BuiltIn();

  // Finds an SoC by its marketing name, part number or alias, however clients write them:
  // "snapdragon_8_gen3", "8 Gen 3", "sm8650", "SM8650-AB", "qcom,sm8650". Case, blanks, dashes and
  // the vendor's name do not count, a plus does ("8+ Gen 1" is not "8 Gen 1"); up to three letters
  // behind a part number are a version of it. A whole name wins over a part of one.
  SocMatch Find(std::string_view name) const;

  const std::vector<Soc>& socs() const { return socs_; }

 private:
  explicit DeviceDatabase(std::vector<Soc> socs);

  struct Key {
    std::string text;  // normalised
    size_t soc;
    bool is_part;
  };
  std::vector<Soc> socs_;
  std::vector<Key> keys_;
};

// Letters and digits in lower case, "plus" for '+', without the words that carry no meaning.
std::string NormalisedSocName(std::string_view name);

}  // namespace tandem::fleet
