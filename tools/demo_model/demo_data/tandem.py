"""What the model knows about Tandem. Each row: ways to ask (a small grammar each), the answer, words that a right answer has."""

from demo_data import base

# Before a question that starts with "what/how/why..." these keep its meaning.
_FRONT = ["", "", "", "", "", "Tell me: ", "Quick question: ", "I have a question. ", "In short, ", "I am new here. "]


def _term(term, *more, tandem=True):
    """The ways to ask what a thing is."""
    tail = "[|| in Tandem]" if tandem else ""
    return [f"[What is|What's|What exactly is] {term}{tail}?", f"[Explain|Describe|Define] {term}{tail}.", f"[Tell me about|Can you explain|Could you describe|Explain to me] {term}{tail}.",
            f"What does {term} [do|mean]{tail}?", f"[Do you know|I want to know|I would like to know] what {term} is{tail}.", f"What do you know about {term}{tail}?",
            f"{term}?", f"{term.split(' ', 1)[-1] if term.split(' ')[0] in ('the', 'a', 'an') else term}[?|]"] + list(more)


FACTS = [
    (_term("Tandem", "What does Tandem do?", "What is Tandem [for|good for]?", "[What|Which] problem does Tandem solve?", "Who or what is Tandem?", "What is this project[ about|]?", "What is this [program|software]?", "[Tell me|I want to know] [something|more|everything|a bit] about Tandem.", "[What|Who] is Tandem and what does it do?", tandem=False),
     "Tandem serves Gemma 3 models on the NPU and the integrated GPU of one machine together, as a small cluster of processes.", ["Gemma 3", "NPU", "GPU"]),
    (_term("the gateway", "What is the [job|role|task|purpose] of the gateway?", "Which process [answers|takes|handles] [HTTP |the |]requests?", "Which process owns the public ports?", "Why [is there|do I need] a gateway?"),
     "The gateway owns the public ports. It tokenises requests, schedules them, and streams the answers over HTTP and gRPC.", ["ports", "HTTP", "gRPC"]),
    (_term("the loader", "What is the [job|role|task|purpose] of the loader?", "Which process [reads|opens|loads] the [weights|weight files|model file]?", "Why [is there|do I need] a loader?", "Who reads the model file?"),
     "The loader reads GGUF and safetensors files, quantises and packs the weights, and publishes them in shared memory.", ["GGUF", "safetensors", "shared memory"]),
    (_term("the gpu-worker", "What is the [job|role|task|purpose] of the [gpu-worker|GPU worker]?", "Which process [uses|owns|drives] the GPU?", "What is a GPU worker?", "[What|Which] API does the GPU worker use?"),
     "The gpu-worker owns one Vulkan device. It runs its stages of every step and keeps its KV cache.", ["Vulkan", "stages"]),
    (_term("the npu-worker", "What is the [job|role|task|purpose] of the [npu-worker|NPU worker]?", "Which process [uses|owns|drives] the NPU?", "What is an NPU worker?", "[What|Which] library does the NPU worker use?"),
     "The npu-worker owns one NPU through XRT, or the CPU device when it is asked for by name. It runs its stages of every step.", ["NPU", "XRT"]),
    (_term("the tandem command", "What can the tandem command [line |]do?", "What is the tandem command [line |]for?", "[Which|What] commands does tandem have?", "[List|Name] the tandem commands."),
     "The tandem command starts and stops a local cluster, chats, diagnoses and tokenises: up, down, status, chat, doctor, tokenize, version.", ["up", "down", "status", "chat", "doctor"]),
    (["[Which|What] processes [does Tandem have|are there|make up Tandem|belong to a cluster]?", "How many processes does Tandem [have|use|run]?", "[Name|List] the processes of Tandem.", "What are the parts of Tandem?",
      "What does a [Tandem |]cluster consist of?", "[Explain|Describe] the architecture of Tandem.", "How is Tandem built up?"],
     "Tandem has four kinds of process: the gateway, the loader, the gpu-worker and the npu-worker. The tandem command starts them.", ["gateway", "loader", "gpu-worker", "npu-worker"]),
    (_term("a plan", "What is a placement plan?", "What does a plan [say|contain|describe]?", "Why does Tandem [have|need|use] plans?"),
     "A plan is a list of stages. It says which worker runs which layers and which part of them: attention, FFN, embedding or head.", ["stages", "worker"]),
    (["[Which|What] plans [exist|are there|does Tandem have|can I use|are available]?", "[Name|List|Show|Tell me] the [named |]plans.", "What are the [named |]plans [of|in] Tandem?", "[How many|Which kinds of] plans are there?", "What can I pass to --plan?"],
     "The named plans are gpu, npu, split, hybrid, layers and auto.", ["gpu", "npu", "split", "hybrid", "layers", "auto"]),
    (_term("the split plan", "What [is|does] plan split[ do|]?", "What [is|gets] split in the split plan?", "How does the split plan [work|divide the work]?", "Which plan uses [NPU and GPU|both devices] [together|at once]?", "What does --plan split do?"),
     "The split plan runs attention on the NPU and the FFN on the GPU, and overlaps micro-batches so that both work at once.", ["attention", "NPU", "FFN", "GPU"]),
    (_term("the gpu plan", "What does --plan gpu do?", "What does plan gpu do?", "Which plan uses [only the GPU|the GPU alone]?"), "The gpu plan runs every stage on the GPU.", ["every stage", "GPU"]),
    (_term("the npu plan", "What does --plan npu do?", "What does plan npu do?", "Which plan uses [only the NPU|the NPU alone]?"), "The npu plan runs every stage on the NPU.", ["every stage", "NPU"]),
    (_term("the hybrid plan", "What does --plan hybrid do?", "What does plan hybrid do?", "How does the hybrid plan [work|divide the work]?"),
     "The hybrid plan runs the matrix products of prefill on the NPU, and attention, the KV cache and decode on the GPU.", ["prefill", "NPU", "decode", "GPU"]),
    (_term("the layers plan", "What does --plan layers do?", "What does plan layers do?", "How does the layers plan [work|divide the work]?", "How can I [use|spread a model over] several [hosts|machines|GPUs]?", "Can Tandem [use|run on] [two|several|many] machines?"),
     "The layers plan gives consecutive layers to several workers or hosts.", ["consecutive layers", "workers"]),
    (["[Which|What] plan [should I|shall I|must I|do I] [use|choose|take|pick]?", "[Which|What] plan is [best|the best|fastest|right for me]?", "[Which|What] is the best plan?", "Which plan do you recommend?"],
     "Start with the auto plan: it measures the workers and picks the best placement.", ["auto"]),
    (_term("the auto plan", "What does --plan auto do?", "What does plan auto do?", "How does [the auto plan|Tandem] choose a plan?", "Which plan [chooses|decides] by itself?"),
     "The auto plan measures the stages of each worker at start and picks the best placement. tandem status shows the reasons.", ["measures", "status"]),
    (_term("an edge", "What connects two stages?", "How do two stages [talk|exchange data]?", "What joins two stages?"),
     "An edge joins two stages on one host. It is a ring of slots that hand the residual stream on through shared memory.", ["two stages", "ring"]),
    (["[Which|What] [handle kinds|kinds of edges|kinds of handles] [exist|are there|does Tandem have]?", "What is [a handle kind|dma-buf|host-pointer|an inline edge][ in Tandem|]?", "How is an edge['s memory|] shared?", "[Name|List] the handle kinds."],
     "An edge has one of three handle kinds, tried in this order: dma-buf, host-pointer, inline.", ["dma-buf", "host-pointer", "inline"]),
    (_term("a stage", "What is a stage of a plan?"), "A stage is a part of the model that one worker runs: some layers, and of them attention, the FFN, both, the embedding or the head.", ["worker", "layers"]),
    (_term("a step", "What happens in a step?"), "In a step the gateway sends one StepPlan to every worker of the plan, the stages run, and the last one samples the next tokens.", ["StepPlan", "samples"]),
    (_term("a region", "What is a weight region?", "How do workers get the weights?", "How are weights shared?", "Where do the weights live?"),
     "A region is shared memory that holds packed weights. The loader publishes it, and workers map it without a copy.", ["shared memory", "loader"]),
    (["How [do|can|could] I [load|run|start|serve|use] [Gemma 3 27B|the 27B model|Gemma 27B|gemma-3-27b|a 27B model]?", "[Which|What] command [loads|starts|runs] [Gemma 3 27B|the 27B model|Gemma 27B]?", "[Load|Run|Start] Gemma 3 27B.",
      "I want to [run|load|use] [Gemma 3 27B|the 27B model|Gemma 27B]. [How|What do I do]?", "How [do|can] I load the [big|largest|biggest] [model|Gemma]?", "Show me how to [load|run|start] Gemma 3 27B."],
     "Run: tandem up --model PATH --quant int4, where PATH is the file or folder of Gemma 3 27B.", ["tandem up --model PATH --quant int4"]),
    (["How [do|can|could] I [start|launch|run|boot] [Tandem|a cluster|the cluster|the server|a local cluster]?", "[Which|What] command starts [Tandem|the cluster|the server|a cluster]?", "How [do|can] I [load|serve] a model?", "What does tandem up do?",
      "How do I use tandem up?", "How do I get started[ with Tandem|]?"],
     "Run: tandem up --model PATH. It starts the loader, the workers and the gateway.", ["tandem up --model PATH"]),
    (["How [do|can|could] I [stop|end|shut down|quit] [Tandem|a cluster|the cluster|the server]?", "[Which|What] command stops [Tandem|the cluster|the server]?", "What does tandem down do?"], "Run: tandem down. It stops every process of the cluster.", ["tandem down"]),
    (["How [do|can|could] I see [the status|what is running|the state of the cluster|which device runs what|the plan]?", "What does tandem status [do|show]?", "[Which|What] command shows the status?", "How do I find out which device a stage runs on?", "Is the cluster running?"],
     "Run: tandem status. It shows the processes, the plan, the device of each stage, the edge kinds and the tokens per second.", ["tandem status"]),
    (["How [do|can|could] I [chat|talk] [with|to] [a model|the model|Tandem][ in the terminal|]?", "What does tandem chat do?", "[Which|What] command [opens|starts] a chat?", "How do I ask one question from the [terminal|command line]?"],
     "Run: tandem chat. For a single question: tandem chat --once \"text\".", ["tandem chat"]),
    (["What does tandem doctor do?", "How [do|can] I [check|diagnose] my [machine|system|hardware|setup]?", "[Which|What] command [checks|diagnoses] [the machine|my system|drivers]?", "How do I know whether my [GPU|NPU] works?", "What is tandem doctor[ for|]?"],
     "Run: tandem doctor. It finds Vulkan devices, NPUs, drivers, memory and limits, and says what would run where and what is missing.", ["tandem doctor"]),
    (["What does tandem tokenize do?", "How [do|can] I [tokenise|tokenize] [text|a text|a sentence]?", "[Which|What] command turns text into token ids?"], "Run: tandem tokenize. It reads text on stdin and prints token ids, and it can turn ids back into text.", ["tandem tokenize"]),
    (["How [do|can] I see the version?", "What does tandem version do?", "[Which|What] version [is this|of Tandem is this]?"], "Run: tandem version. It prints the version of Tandem.", ["tandem version"]),
    (["[Which|What] [weight formats|formats for weights|quantisations|quantizations] [exist|are there|does Tandem have|are supported|can I use]?", "What can I pass to --quant?", "What does --quant do?", "How can I quantise a model?", "[Name|List] the weight formats."],
     "The weight formats are bf16, int8 and int4. Choose one with --quant bf16, int8, int4 or as-is.", ["bf16", "int8", "int4"]),
    (_term("int4", "How does int4 [work|store weights]?", "What is the int4 format?", "How many bits has an int4 weight?"), "int4 stores each weight in four bits, with one scale for a group of 32 weights. It is the smallest format.", ["four bits", "32"]),
    (_term("int8", "How does int8 [work|store weights]?", "What is the int8 format?", "How many bits has an int8 weight?"), "int8 stores each weight in eight bits, with one scale for a group of 32 weights.", ["eight bits", "32"]),
    (_term("bf16", "What is the bf16 format?", "How many bits has a bf16 weight?"), "bf16 stores each weight as a 16-bit brain float. Nothing is quantised.", ["16-bit"]),
    (_term("quantisation", "What is quantization?", "Why [do we|should I|does Tandem] quantise [weights|a model]?", "What is [int4|quantisation] good for?"), "Quantisation stores weights in fewer bits. Decoding then reads fewer bytes and is faster, at the cost of a little accuracy.", ["fewer bits"]),
    (["[Which|What] [file formats|model files|formats of files|checkpoints] [does Tandem|can Tandem|can the loader|does the loader] [read|load|support|accept]?", "Can Tandem [read|load] [GGUF|safetensors]?", "Does Tandem [read|load|support] [GGUF|safetensors][ files|]?", "[Which|What] files can I load?"],
     "Tandem reads GGUF and safetensors files, a folder of them, or a Hugging Face cache snapshot.", ["GGUF", "safetensors"]),
    (["[Which|What] models [does Tandem|can Tandem] [run|serve|support|load]?", "[Can|Does] Tandem [run|serve|support] [Gemma 3|Gemma|other models|Llama]?", "[Which|What] sizes of Gemma [are supported|can I use|work]?"], "Tandem serves Gemma 3, from 1B to 27B.", ["Gemma 3", "27B"]),
    (["[Which|What] APIs [does Tandem|does the gateway] [have|offer|speak|support]?", "How [do|can] I [call|reach|use] Tandem from [my program|code|a program|an application]?", "Does Tandem [have|speak|support] [the OpenAI API|an OpenAI API|gRPC|HTTP]?", "Is Tandem compatible with [OpenAI|the OpenAI API]?",
      "Can I use [an|the] OpenAI client[ with Tandem|]?", "[How do I use|Can I use|How can I call|Can I call] Tandem [from|with] [Python|JavaScript|Node|curl|a script|an app|my code]?"],
     "Tandem speaks the OpenAI v1 API over HTTP, and gRPC. Any OpenAI client works: set its base URL to the gateway.", ["OpenAI", "gRPC"]),
    (["[Which|What] [HTTP |]endpoints [does Tandem have|are there|exist|does the gateway have|does the gateway offer]?", "[Which|What] URLs [are there|can I call]?", "[Name|List] the [HTTP |]endpoints.", "What is the path [for chat|of the chat API]?"],
     "The HTTP endpoints are /v1/chat/completions, /v1/completions, /v1/models, /healthz, /readyz and /metrics.", ["/v1/chat/completions", "/v1/models", "/metrics"]),
    (["[Which|What] port [does Tandem|does the gateway] [use|listen on]?", "[Which|What] ports are [used|open]?", "How [do|can] I [set|change|choose] the [port|address|ports]?", "Where does the gateway listen?", "What are --http and --grpc for?"],
     "The gateway listens on the addresses given with --http and --grpc. tandem status shows them.", ["--http", "--grpc"]),
    (["Can I [stream|get streamed] [answers|tokens|the answer]?", "Does Tandem [stream|support streaming]?", "How does streaming work?", "How do I stream an answer?"], "Yes. Over HTTP set stream to true and read server-sent events; over gRPC, Generate is a server stream.", ["stream", "server-sent events"]),
    (["[Do I need|When do I need|Is there|Does Tandem need|Does Tandem have|Must I set|How do I set|Why is there|Is it good to have] [an API key|a password|a key for the API|a secret key]?", "[How|Is Tandem] [is it |]protected?", "Can other [machines|people] [reach|use] my Tandem?", "Why does the gateway refuse to listen[ on a public address|]?"],
     "Without an API key the gateway listens only on loopback or a Unix socket. For any other address it needs an API key.", ["API key", "loopback"]),
    (["[How|Where] [do|can] I [see|get|find] [the metrics|metrics]?", "Does Tandem have metrics?", "How [do|can] I [monitor|watch] Tandem?", "Can I use [Prometheus|Grafana]?", "Does Tandem work with [Prometheus|Grafana]?"],
     "The gateway serves metrics at /metrics for Prometheus, and Grafana shows them.", ["/metrics", "Prometheus"]),
    (["How [do|can] I [deploy|run] Tandem [with Docker|in containers|with docker-compose|in production]?", "Is there a [docker-compose file|Docker image|Dockerfile]?", "Can I use Docker?"], "Use docker-compose: the deploy folder has the compose file, Dockerfiles, Prometheus and Grafana.", ["docker-compose", "deploy"]),
    (["What happens [when|if] [a worker|the gpu-worker|the GPU worker|the npu-worker|the NPU worker|one of the workers] [crashes|dies|fails|is killed|stops|exits]?", "What does Tandem do [when|if] a [worker|device|process] fails?", "How does Tandem handle [failures|crashes|a crash]?", "Is Tandem fault tolerant?"],
     "The gateway holds the running requests, waits for the worker to return, and replays them. Clients see a pause, never a changed text.", ["gateway", "replays"]),
    (["What happens [when|if] [too many requests come|the queue is full|there are too many users|the server is overloaded]?", "What does HTTP 429 mean[ here|]?", "Why do I get [429|HTTP 429|RESOURCE_EXHAUSTED]?", "Is the queue bounded?"],
     "Every queue is bounded. Past the bound, HTTP answers 429 with Retry-After, and gRPC RESOURCE_EXHAUSTED.", ["429", "RESOURCE_EXHAUSTED"]),
    (["Do I need an NPU?", "Does Tandem [run|work] without [an NPU|a GPU|an NPU or a GPU]?", "Can I use the CPU?", "What is the CPU device?", "What if I have no [NPU|GPU]?"], "No NPU is needed. The CPU device does its work when a configuration names it, for example with --npu cpu.", ["CPU device", "--npu cpu"]),
    (["Does Tandem [quietly|silently] [replace a device|use another device|fall back to the CPU]?", "What happens [when|if] [a device is missing|the GPU is missing|the NPU is missing|my device is not there]?", "Is there a silent fallback?"],
     "A device is never silently replaced. A worker whose device is not there says so and exits.", ["never silently replaced"]),
    (["[Which|What] GPUs [does Tandem support|work|can I use]?", "Does Tandem [run|work] on [NVIDIA|AMD|Intel|a Radeon]?", "[Do I need|Does Tandem need|Must I have|Must it be|Does it have to be] [an AMD|an NVIDIA|an Intel|a special|a new|a certain] GPU?", "[Which|What] hardware [do I need|does Tandem need|does Tandem support]?", "Does Tandem [use|need] [CUDA|Vulkan|ROCm]?"],
     "Tandem runs on any Vulkan GPU, on the NPU of AMD Ryzen AI machines, and on the CPU. It does not need CUDA.", ["Vulkan", "CUDA"]),
    (_term("Vulkan", "Why does Tandem use Vulkan?"), "Vulkan is an API for GPUs. The gpu-worker uses it, so Tandem runs on GPUs of any maker.", ["API", "gpu-worker"]),
    (_term("XRT", "Why does Tandem use XRT?"), "XRT is the runtime library for AMD NPUs. The npu-worker uses it.", ["NPU"]),
    (_term("an NPU", "What is the NPU [for|good for]?", "What does NPU stand for?", "What does the NPU add?"), "An NPU is a neural processing unit. It adds int8 arithmetic for prefill, leaves the GPU free, and needs little power.", ["neural processing unit"]),
    (_term("a GPU", "What does GPU stand for?"), "A GPU is a graphics processing unit. Tandem uses it for attention, the FFN and decode, depending on the plan.", ["graphics processing unit"]),
    (_term("the KV cache", "Who owns the KV cache?", "Where is the KV cache?", "What is stored in the KV cache?"), "The KV cache keeps keys and values of earlier tokens. The scheduler owns the block ids, and the stage that computes attention owns the bytes.", ["keys and values", "scheduler"]),
    (_term("the scheduler", "What does the scheduler decide?", "Where is the scheduler?"), "The scheduler is part of the gateway. It decides which tokens of which requests run in the next step, and it is pure data in, data out.", ["gateway", "next step"]),
    (_term("continuous batching", "Does Tandem [batch requests|do continuous batching]?", "Can Tandem serve many users[ at once|]?", "How does Tandem serve several users?"), "With continuous batching, requests join and leave at every step, so one read of the weights serves many users.", ["every step"]),
    (_term("prefill"), "Prefill runs the tokens of the prompt, many at once. It is limited by arithmetic.", ["prompt"]),
    (_term("decode", "What is decoding?"), "Decode makes one new token per step and sequence. It is limited by memory bandwidth.", ["memory bandwidth"]),
    (["[Is Tandem|Is it|Is decoding] [fast|slow|quick]?", "How fast is [Tandem|Gemma 3 27B|the 27B model|decoding]?", "What limits the speed[ of decoding|]?", "Why is [decode|decoding|a big model] slow?", "How many tokens per second [can I expect|are possible]?", "Why does memory bandwidth matter?"],
     "Decoding reads every weight once per token, so tokens per second are at most memory bandwidth divided by the bytes of the weights.", ["memory bandwidth", "bytes"]),
    (_term("the residual stream", "[Which|What] [type|format|precision] does the residual stream have?", "Why is the residual stream float32?"), "The residual stream is what stages hand on from layer to layer. It is float32 on every edge, because Gemma 3 overflows float16.", ["float32"]),
    (["Where [does|is] [sampling happen|sampling done|the next token chosen]?", "Who samples the [next |]token[s|]?", "How does sampling work?", "Why are logits never sent?"], "Sampling happens beside the last stage, so the logits never travel. It is seeded by request and position.", ["last stage"]),
    (["[Is|Are] [the output|answers|Tandem] [reproducible|deterministic]?", "What does seed do?", "How do I get the same answer [twice|again]?", "What is the seed for?"], "Yes: sampling is seeded by the request's seed and the position, so the same request gives the same tokens.", ["seed", "same tokens"]),
    (["[Which|What] [parameters|options] [does the chat API|can a request|can I] [take|have|set]?", "Can I set the temperature[ of a request|]?", "[Which|What] sampling parameters are there?"], "A request can set max_tokens, temperature, top_p, top_k, min_p, seed, stop, n, logprobs, logit_bias and stream.", ["max_tokens", "temperature", "top_p"]),
    (_term("a token", tandem=False), "A token is a piece of text, such as a word or a part of one, with a number. Models read and write tokens.", ["piece of text"]),
    (_term("the tokenizer", "[Which|What] tokenizer [does Tandem use|is used]?", "How does tokenisation work?"), "The tokenizer is a SentencePiece BPE of Tandem's own. It turns text into token ids and back.", ["SentencePiece"]),
    (_term("the chat template", "How does a chat become a prompt?", "What happens to the system message?"), "The chat template turns messages into Gemma's turns. System text is folded into the first user turn.", ["turns"]),
    (_term("attention"), "Attention lets each token look at earlier tokens. In Gemma 3 five local layers with a sliding window are followed by one global layer.", ["earlier tokens"]),
    (_term("the FFN", "What does FFN stand for?", "What is the feed-forward network?"), "The FFN is the feed-forward network of a layer. In Gemma 3 it is a GeGLU of three matrices.", ["feed-forward network"]),
    (_term("the sliding window", "What are local layers?", "What is a local layer?"), "Local layers see only a sliding window of recent tokens. Gemma 3 has five of them for each global layer.", ["window"]),
    (_term("Gemma 3", "Who made Gemma 3?", "What is Gemma?", tandem=False), "Gemma 3 is a family of open language models by Google. Tandem serves its text part, from 1B to 27B.", ["language models"]),
    (_term("zero-copy", "Why is shared memory used?", "Why does Tandem [avoid copies|use shared memory]?", "How are activations handed over?", "Does Tandem copy [weights|activations]?"), "Weights and activations are handed over through shared memory without a copy, because bandwidth is the scarce thing.", ["shared memory", "without a copy"]),
    (["What is gRPC used for[ in Tandem|]?", "Why does Tandem use gRPC?", "How do [the processes|gateway and workers] [talk|communicate]?", "Is there a gRPC call per layer?"], "Processes talk gRPC: one StepPlan per worker and step goes out, one StepResult comes back. There is no call per layer.", ["StepPlan", "StepResult"]),
    (["[Which|What] language is Tandem written in?", "What is Tandem written in?", "Is Tandem written in [C++|Rust|Python]?", "[Which|What] programming language does Tandem use?"], "Tandem is written in C++20, with GLSL for the GPU kernels.", ["C++20"]),
    (["[Which|What] [licence|license] does Tandem have?", "Is Tandem [open source|free]?", "Under which [licence|license] is Tandem?"], "Tandem has the Apache-2.0 licence.", ["Apache-2.0"]),
    (["How [do|can] I [build|compile|install] Tandem?", "What does ./demo do?", "How do I try Tandem?", "How do I run the demo?"], "Run ./demo in the repository. It installs what is missing, builds Tandem, starts a cluster and asks it a question.", ["./demo"]),
    (["How [do|can] I [run|start] the tests?", "What does ./check do?", "How is Tandem tested?", "How do I test Tandem?"], "Run ./check in the repository. It installs what is missing, builds Tandem and runs all tests.", ["./check"]),
    (["[Is my data|Are my chats|Is it] [private|safe|sent to the cloud|sent anywhere]?", "Does Tandem [send|upload] [data|my data] [to the cloud|anywhere|]?", "Where does my data go?", "Does Tandem need the internet?", "Does Tandem work offline?"], "Everything runs on your own machine. Tandem sends your data nowhere.", ["own machine"]),
    (["Who is Tandem for?", "Who [uses|should use] Tandem?"], "Tandem is for owners of Ryzen AI machines who want a private assistant, for developers, and for operators.", ["private assistant", "developers"]),
    (["Where are the [logs|log files]?", "Where does Tandem [keep|store] [logs|its state|its files|sockets]?", "Can [several|two] clusters run [at once|side by side]?", "What is a cluster name for?"], "Sockets, logs and state live under the XDG folders by cluster name, so several clusters can run side by side.", ["XDG"]),
    (["What is [/readyz|readiness|/healthz]?", "How [do|can] I [check|see] [whether|if] Tandem is ready?", "Is there a health check?", "Is there a health endpoint?"], "/healthz says that the gateway lives. /readyz runs a small real dispatch on the devices.", ["/healthz", "/readyz"]),
    (["How [do|can|could] I [choose|set|change|pick|select] [a plan|the plan|another plan]?", "[Which|What] flag [sets|chooses|selects] the plan?", "How do I use the split plan?", "What does --plan do?"], "Choose it at start: tandem up --model PATH --plan split, or another plan's name.", ["--plan"]),
    (["How [do|can|could] I [choose|set|change|pick|select] the [GPU|NPU|device]?", "What [does|is] --gpu[ do| for]?", "What [does|is] --npu[ do| for]?", "[Which|What] flag chooses the [GPU|NPU|device]?"], "Use tandem up with --gpu auto, NAME or none, and --npu cpu, xrt or none.", ["--gpu", "--npu"]),
    (["[What is|What's] [the demo model|this model|this demo model]?", "[Which|What] model [is this|am I talking to|are you]?", "How [big|large|small] [are you|is this model|is the demo model]?", "How many parameters do you have?", "How many layers do you have?", "[How|On what] were you trained?"],
     "I am a tiny demo model: a Gemma 3 with about 15 million parameters and 12 layers, trained on generated text so that Tandem can be tried without a download.", ["tiny demo model", "15 million"]),
    (["[Which|What] files are in the repository?", "How is the [repository|code] organised?", "What folders does the repository have?", "Where is the [code|source] of the [gateway|loader|scheduler|GPU worker]?"], "The folders are lib, gateway, loader, gpu-worker, npu-worker, cli, proto, deploy, tests, bench, tools and docs.", ["gateway", "loader", "proto"]),
    (["What is [a golden test|the golden set|golden data]?", "How do you know that Tandem is correct?", "How is correctness tested?", "Is Tandem [correct|exact]?"], "Tandem's logits are compared with those of Hugging Face transformers on golden checkpoints, under every plan.", ["transformers"]),
    (["What is the conformance suite?", "How are devices tested?"], "The conformance suite runs the same tests over every device: each must equal the float32 reference.", ["every device"]),
]


# Terms that can be set against each other.
_TERMS = {forms[0].split("|What exactly is] ")[1].split("[|")[0].rstrip("?"): (answer, need) for forms, answer, need in FACTS if "|What exactly is] " in forms[0]}


def _difference(rng):
    one, two = rng.sample(list(_TERMS), 2)
    user = base.expand(rng.choice(["[What is|What's|Explain|Tell me] the difference between {a} and {b}[?|.]", "[Compare|Explain|Describe] {a} and {b}.", "What are {a} and {b}?",
                                   "How is {a} different from {b}?", "How does {a} differ from {b}?"]), rng)
    user = user.replace("{a}", one).replace("{b}", two)
    return base.Turn(user, _TERMS[one][0] + " " + _TERMS[two][0], "difference:" + ":".join(sorted([one, two])), base.contains(*_TERMS[one][1], *_TERMS[two][1]))


def tandem(rng):
    if rng.random() < 0.08:
        return _difference(rng)
    forms, answer, need = rng.choice(FACTS)
    user = base.expand(rng.choice(forms), rng)
    user = user[0].upper() + user[1:] if not user.startswith("tandem") else user
    turn = base.from_prompt(user, answer, base.contains(*need))
    front = rng.choice(_FRONT)
    if front and user.split()[0] in ("What", "Which", "How", "Why", "Where", "Who", "Is", "Does", "Do", "Can"):
        turn.user = front + (user if front.endswith(". ") else user[0].lower() + user[1:])
    return turn
