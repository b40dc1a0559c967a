#include "gateway/ingress/doors/doors.h"

#include "gateway/ingress/doors/anthropic/anthropic_door.h"
#include "gateway/ingress/doors/ollama/ollama_door.h"
#include "gateway/ingress/doors/openai/openai_door.h"
#include "gateway/ingress/doors/operations/operations_door.h"
#include "gateway/ingress/doors/responses/responses_door.h"
#include "gateway/ingress/doors/tokenizer/tokenizer_door.h"

namespace tandem {

std::vector<std::unique_ptr<Door>> MakeDoors(const DoorServices& services) {
  std::vector<std::unique_ptr<Door>> doors;
  doors.push_back(MakeOperationsDoor(services));
  doors.push_back(MakeOpenAiDoor(services));
  doors.push_back(MakeResponsesDoor(services));
  doors.push_back(MakeAnthropicDoor(services));
  doors.push_back(MakeOllamaDoor(services));
  doors.push_back(MakeTokenizerDoor(services));
  return doors;
}

}  // namespace tandem
