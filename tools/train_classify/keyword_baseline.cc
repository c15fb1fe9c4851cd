#include "train_classify/keyword_baseline.h"

#include <algorithm>
#include <string>
#include <vector>

namespace tandem::train_classify {
namespace {

struct ClassKeywords {
  TaskClass task;
  std::vector<std::string_view> words;
};

// Clients ask for maths and code first, since those decide the tier.
const std::vector<ClassKeywords>& Keywords() {
  static const std::vector<ClassKeywords> keywords = {
      {TaskClass::kMathReasoning,
       {"math",    "calculate",    "solve",     "equation",  "number",   "sum of",
        "percent", "how many",     "calcula",   "resuelve",  "ecuación", "número",
        "cuánto",  "berechne",     "löse",      "gleichung", "zahl",     "wie viel",
        "hitung",  "selesaikan",   "persamaan", "angka",     "berapa",   "tính",
        "giải",    "phương trình", "con số",    "bao nhiêu", "คำนวณ",    "สมการ",
        "ตัวเลข",   "เท่าไหร่",       "计算",      "方程",      "数学",     "多少"}},
      {TaskClass::kCodeGeneration,
       {"code",     "function",  "python",  "javascript", "java",  "sql",    "program",  "script",
        "debug",    "código",    "función", "programa",   "kode",  "fungsi", "funktion", "programm",
        "mã nguồn", "lập trình", "hàm ",    "โค้ด",        "ฟังก์ชัน", "代码",   "函数",     "编程"}},
      {TaskClass::kTranslation,
       {"translat", "traduc", "traduz", "übersetz", "terjemah", "dịch", "แปล", "翻译"}},
      {TaskClass::kSummarisation,
       {"summar", "tl;dr", "resum", "zusammenfass", "ringkas", "rangkum", "tóm tắt", "สรุป", "总结",
        "摘要"}},
      {TaskClass::kExtraction,
       {"extract", "json", "list all", "extrae", "extrahier", "ekstrak", "trích xuất", "ดึงข้อมูล",
        "提取"}},
      {TaskClass::kCreativeWriting,
       {"story",   "poem",    "write a", "song",  "cuento", "poema",  "escribe", "geschichte",
        "gedicht", "schreib", "cerita",  "puisi", "tulis",  "truyện", "bài thơ", "viết",
        "เรื่องสั้น",  "กลอน",    "เขียน",    "故事",  "诗",     "写"}},
      {TaskClass::kProductQuestion,
       {"order",      "price",   "shipping",   "refund",  "warranty",  "pedido",   "precio",
        "envío",      "preis",   "bestellung", "versand", "garantie",  "pesanan",  "harga",
        "pengiriman", "garansi", "đơn hàng",   "giá",     "giao hàng", "bảo hành", "คำสั่งซื้อ",
        "ราคา",       "จัดส่ง",    "ประกัน",      "订单",    "价格",      "发货",     "保修"}},
  };
  return keywords;
}

std::string LowerAscii(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return lower;
}

}  // namespace

gateway::Classification ClassifyByKeywords(std::string_view text) {
  const std::string lower = LowerAscii(text);
  for (const ClassKeywords& entry : Keywords()) {
    if (std::ranges::any_of(entry.words,
                            [&](std::string_view word) { return lower.contains(word); })) {
      return {.task = entry.task, .confidence = 1, .reason = "keywords"};
    }
  }
  return {.task = TaskClass::kGeneralConversation, .confidence = 1, .reason = "keywords"};
}

}  // namespace tandem::train_classify
