#include "gateway/dispatch/prompt_size.h"

#include <gtest/gtest.h>

namespace tandem::gateway::dispatch {
namespace {

// Counts of the two real tokenizers (`tandem tokenize`), taken once.
TEST(PromptSizeTest, WithinAThirdOfBothTokenizers) {
  const struct {
    const char* text;
    double phi;
    double mimo;
  } rows[] = {
      {"The delivery usually takes three to five working days, and you will receive an e-mail with "
       "the tracking number as soon as the parcel has left our warehouse.",
       31, 31},
      {"La entrega suele tardar de tres a cinco días hábiles y recibirá un correo electrónico con "
       "el número de seguimiento en cuanto el paquete salga de nuestro almacén.",
       34, 39},
      {"Die Lieferung dauert in der Regel drei bis fünf Werktage, und Sie erhalten eine E-Mail mit "
       "der Sendungsnummer, sobald das Paket unser Lager verlassen hat.",
       33, 39},
      {"Pengiriman biasanya memakan waktu tiga sampai lima hari kerja, dan Anda akan menerima "
       "surel berisi nomor pelacakan setelah paket meninggalkan gudang kami.",
       32, 46},
      {"Việc giao hàng thường mất từ ba đến năm ngày làm việc và bạn sẽ nhận được email có mã vận "
       "đơn ngay khi gói hàng rời kho của chúng tôi.",
       35, 35},
      {"โดยปกติการจัดส่งจะใช้เวลาสามถึงห้าวันทำการ "
       "และคุณจะได้รับอีเมลพร้อมหมายเลขติดตามพัสดุทันทีที่พัสดุออกจากคลังสินค้าของเรา",
       50, 62},
      {"送货通常需要三到五个工作日，包裹离开我们的仓库后，您会立即收到一封包含追踪号码的电子邮件。",
       35, 26},
      {"def total(prices: list[float]) -> float:  return sum(price * 1.19 for price in prices if "
       "price > 0)",
       31, 31},
  };
  for (const auto& row : rows) {
    const auto estimate = static_cast<double>(EstimateTokens(row.text));
    EXPECT_NEAR(estimate, row.phi, row.phi / 3) << row.text;
    EXPECT_NEAR(estimate, row.mimo, row.mimo / 3) << row.text;
  }
}

TEST(PromptSizeTest, EverythingThatIsSentCounts) {
  GenerateRequest request;
  EXPECT_EQ(EstimatePromptTokens(request), 0);
  request.messages.push_back({.role = "user", .content = std::string(400, 'a')});
  const int32_t text = EstimatePromptTokens(request);
  EXPECT_EQ(text, 94);
  request.tools_json = std::string(400, 'a');
  EXPECT_EQ(EstimatePromptTokens(request), text + 90);
  request.assistant_prefix = std::string(40, 'a');
  EXPECT_EQ(EstimatePromptTokens(request), text + 99);
  request.messages[0].tool_calls.push_back({"id", "f", std::string(40, 'a')});
  EXPECT_EQ(EstimatePromptTokens(request), text + 99 + 4 + 1 + 9);
}

TEST(PromptSizeTest, InvalidUtf8IsCountedNotRead) {
  EXPECT_EQ(EstimateTokens("\xFF\xFE\x80\x80"), 3);
  EXPECT_EQ(EstimateTokens(""), 0);
}

}  // namespace
}  // namespace tandem::gateway::dispatch
