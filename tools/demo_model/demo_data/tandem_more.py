"""More about Tandem: the API, failures, devices, the parts of a model, the repository. See tandem.py."""

from demo_data.tandem_start import term

FACTS = [
    (
        [
            "How [do|can] I [deploy|run] Tandem [with Docker|in containers|with docker-compose|in production]?",
            "Is there a [docker-compose file|Docker image|Dockerfile]?",
            "Can I use Docker?",
        ],
        "Use docker-compose: the deploy folder has the compose file, Dockerfiles, Prometheus and Grafana.",
        ["docker-compose", "deploy"],
    ),
    (
        [
            "What happens [when|if] [a worker|the gpu-worker|the GPU worker|the npu-worker|the NPU worker|one of the workers] [crashes|dies|fails|is killed|stops|exits]?",
            "What does Tandem do [when|if] a [worker|device|process] fails?",
            "How does Tandem handle [failures|crashes|a crash]?",
            "Is Tandem fault tolerant?",
        ],
        "The gateway holds the running requests, waits for the worker to return, and replays them. Clients see a pause, never a changed text.",
        ["gateway", "replays"],
    ),
    (
        [
            "What happens [when|if] [too many requests come|the queue is full|there are too many users|the server is overloaded]?",
            "What does HTTP 429 mean[ here|]?",
            "Why do I get [429|HTTP 429|RESOURCE_EXHAUSTED]?",
            "Is the queue bounded?",
        ],
        "Every queue is bounded. Past the bound, HTTP answers 429 with Retry-After, and gRPC RESOURCE_EXHAUSTED.",
        ["429", "RESOURCE_EXHAUSTED"],
    ),
    (
        [
            "Do I need an NPU?",
            "Does Tandem [run|work] without [an NPU|a GPU|an NPU or a GPU]?",
            "Can I use the CPU?",
            "What is the CPU device?",
            "What if I have no [NPU|GPU]?",
        ],
        "No NPU is needed. The CPU device does its work when a configuration names it, for example with --npu cpu.",
        ["CPU device", "--npu cpu"],
    ),
    (
        [
            "Does Tandem [quietly|silently] [replace a device|use another device|fall back to the CPU]?",
            "What happens [when|if] [a device is missing|the GPU is missing|the NPU is missing|my device is not there]?",
            "Is there a silent fallback?",
        ],
        "A device is never silently replaced. A worker whose device is not there says so and exits.",
        ["never silently replaced"],
    ),
    (
        [
            "[Which|What] GPUs [does Tandem support|work|can I use]?",
            "Does Tandem [run|work] on [NVIDIA|AMD|Intel|a Radeon]?",
            "[Do I need|Does Tandem need|Must I have|Must it be|Does it have to be] [an AMD|an NVIDIA|an Intel|a special|a new|a certain] GPU?",
            "[Which|What] hardware [do I need|does Tandem need|does Tandem support]?",
            "Does Tandem [use|need] [CUDA|Vulkan|ROCm]?",
        ],
        "Tandem runs on any Vulkan GPU, on the NPU of AMD Ryzen AI machines, and on the CPU. It does not need CUDA.",
        ["Vulkan", "CUDA"],
    ),
    (
        term("Vulkan", "Why does Tandem use Vulkan?"),
        "Vulkan is an API for GPUs. The gpu-worker uses it, so Tandem runs on GPUs of any maker.",
        ["API", "gpu-worker"],
    ),
    (
        term("XRT", "Why does Tandem use XRT?"),
        "XRT is the runtime library for AMD NPUs. The npu-worker uses it.",
        ["NPU"],
    ),
    (
        term(
            "an NPU",
            "What is the NPU [for|good for]?",
            "What does NPU stand for?",
            "What does the NPU add?",
        ),
        "An NPU is a neural processing unit. It adds int8 arithmetic for prefill, leaves the GPU free, and needs little power.",
        ["neural processing unit"],
    ),
    (
        term("a GPU", "What does GPU stand for?"),
        "A GPU is a graphics processing unit. Tandem uses it for attention, the FFN and decode, depending on the plan.",
        ["graphics processing unit"],
    ),
    (
        term(
            "the KV cache",
            "Who owns the KV cache?",
            "Where is the KV cache?",
            "What is stored in the KV cache?",
        ),
        "The KV cache keeps keys and values of earlier tokens. The scheduler owns the block ids, and the stage that computes attention owns the bytes.",
        ["keys and values", "scheduler"],
    ),
    (
        term("the scheduler", "What does the scheduler decide?", "Where is the scheduler?"),
        "The scheduler is part of the gateway. It decides which tokens of which requests run in the next step, and it is pure data in, data out.",
        ["gateway", "next step"],
    ),
    (
        term(
            "continuous batching",
            "Does Tandem [batch requests|do continuous batching]?",
            "Can Tandem serve many users[ at once|]?",
            "How does Tandem serve several users?",
        ),
        "With continuous batching, requests join and leave at every step, so one read of the weights serves many users.",
        ["every step"],
    ),
    (
        term("prefill"),
        "Prefill runs the tokens of the prompt, many at once. It is limited by arithmetic.",
        ["prompt"],
    ),
    (
        term("decode", "What is decoding?"),
        "Decode makes one new token per step and sequence. It is limited by memory bandwidth.",
        ["memory bandwidth"],
    ),
    (
        [
            "[Is Tandem|Is it|Is decoding] [fast|slow|quick]?",
            "How fast is [Tandem|Gemma 3 27B|the 27B model|decoding]?",
            "What limits the speed[ of decoding|]?",
            "Why is [decode|decoding|a big model] slow?",
            "How many tokens per second [can I expect|are possible]?",
            "Why does memory bandwidth matter?",
        ],
        "Decoding reads every weight once per token, so tokens per second are at most memory bandwidth divided by the bytes of the weights.",
        ["memory bandwidth", "bytes"],
    ),
    (
        term(
            "the residual stream",
            "[Which|What] [type|format|precision] does the residual stream have?",
            "Why is the residual stream float32?",
        ),
        "The residual stream is what stages hand on from layer to layer. It is float32 on every edge, because Gemma 3 overflows float16.",
        ["float32"],
    ),
    (
        [
            "Where [does|is] [sampling happen|sampling done|the next token chosen]?",
            "Who samples the [next |]token[s|]?",
            "How does sampling work?",
            "Why are logits never sent?",
        ],
        "Sampling happens beside the last stage, so the logits never travel. It is seeded by request and position.",
        ["last stage"],
    ),
    (
        [
            "[Is|Are] [the output|answers|Tandem] [reproducible|deterministic]?",
            "What does seed do?",
            "How do I get the same answer [twice|again]?",
            "What is the seed for?",
        ],
        "Yes: sampling is seeded by the request's seed and the position, so the same request gives the same tokens.",
        ["seed", "same tokens"],
    ),
    (
        [
            "[Which|What] [parameters|options] [does the chat API|can a request|can I] [take|have|set]?",
            "Can I set the temperature[ of a request|]?",
            "[Which|What] sampling parameters are there?",
        ],
        "A request can set max_tokens, temperature, top_p, top_k, min_p, seed, stop, n, logprobs, logit_bias and stream.",
        ["max_tokens", "temperature", "top_p"],
    ),
    (
        term("a token", tandem=False),
        "A token is a piece of text, such as a word or a part of one, with a number. Models read and write tokens.",
        ["piece of text"],
    ),
    (
        term(
            "the tokenizer",
            "[Which|What] tokenizer [does Tandem use|is used]?",
            "How does tokenisation work?",
        ),
        "The tokenizer is a SentencePiece BPE of Tandem's own. It turns text into token ids and back.",
        ["SentencePiece"],
    ),
    (
        term(
            "the chat template",
            "How does a chat become a prompt?",
            "What happens to the system message?",
        ),
        "The chat template turns messages into Gemma's turns. System text is folded into the first user turn.",
        ["turns"],
    ),
    (
        term("attention"),
        "Attention lets each token look at earlier tokens. In Gemma 3 five local layers with a sliding window are followed by one global layer.",
        ["earlier tokens"],
    ),
    (
        term("the FFN", "What does FFN stand for?", "What is the feed-forward network?"),
        "The FFN is the feed-forward network of a layer. In Gemma 3 it is a GeGLU of three matrices.",
        ["feed-forward network"],
    ),
    (
        term("the sliding window", "What are local layers?", "What is a local layer?"),
        "Local layers see only a sliding window of recent tokens. Gemma 3 has five of them for each global layer.",
        ["window"],
    ),
    (
        term("Gemma 3", "Who made Gemma 3?", "What is Gemma?", tandem=False),
        "Gemma 3 is a family of open language models by Google. Tandem serves its text part, from 1B to 27B.",
        ["language models"],
    ),
    (
        term(
            "zero-copy",
            "Why is shared memory used?",
            "Why does Tandem [avoid copies|use shared memory]?",
            "How are activations handed over?",
            "Does Tandem copy [weights|activations]?",
        ),
        "Weights and activations are handed over through shared memory without a copy, because bandwidth is the scarce thing.",
        ["shared memory", "without a copy"],
    ),
    (
        [
            "What is gRPC used for[ in Tandem|]?",
            "Why does Tandem use gRPC?",
            "How do [the processes|gateway and workers] [talk|communicate]?",
            "Is there a gRPC call per layer?",
        ],
        "Processes talk gRPC: one StepPlan per worker and step goes out, one StepResult comes back. There is no call per layer.",
        ["StepPlan", "StepResult"],
    ),
    (
        [
            "[Which|What] language is Tandem written in?",
            "What is Tandem written in?",
            "Is Tandem written in [C++|Rust|Python]?",
            "[Which|What] programming language does Tandem use?",
        ],
        "Tandem is written in C++20, with GLSL for the GPU kernels.",
        ["C++20"],
    ),
    (
        [
            "[Which|What] [licence|license] does Tandem have?",
            "Is Tandem [open source|free]?",
            "Under which [licence|license] is Tandem?",
        ],
        "Tandem has the Apache-2.0 licence.",
        ["Apache-2.0"],
    ),
    (
        [
            "How [do|can] I [build|compile|install] Tandem?",
            "What does ./demo do?",
            "How do I try Tandem?",
            "How do I run the demo?",
        ],
        "Run ./demo in the repository. It installs what is missing, builds Tandem, starts a cluster and asks it a question.",
        ["./demo"],
    ),
    (
        [
            "How [do|can] I [run|start] the tests?",
            "What does ./check do?",
            "How is Tandem tested?",
            "How do I test Tandem?",
        ],
        "Run ./check in the repository. It installs what is missing, builds Tandem and runs all tests.",
        ["./check"],
    ),
    (
        [
            "[Is my data|Are my chats|Is it] [private|safe|sent to the cloud|sent anywhere]?",
            "Does Tandem [send|upload] [data|my data] [to the cloud|anywhere|]?",
            "Where does my data go?",
            "Does Tandem need the internet?",
            "Does Tandem work offline?",
        ],
        "Everything runs on your own machine. Tandem sends your data nowhere.",
        ["own machine"],
    ),
    (
        ["Who is Tandem for?", "Who [uses|should use] Tandem?"],
        "Tandem is for owners of Ryzen AI machines who want a private assistant, for developers, and for operators.",
        ["private assistant", "developers"],
    ),
    (
        [
            "Where are the [logs|log files]?",
            "Where does Tandem [keep|store] [logs|its state|its files|sockets]?",
            "Can [several|two] clusters run [at once|side by side]?",
            "What is a cluster name for?",
        ],
        "Sockets, logs and state live under the XDG folders by cluster name, so several clusters can run side by side.",
        ["XDG"],
    ),
    (
        [
            "What is [/readyz|readiness|/healthz]?",
            "How [do|can] I [check|see] [whether|if] Tandem is ready?",
            "Is there a health check?",
            "Is there a health endpoint?",
        ],
        "/healthz says that the gateway lives. /readyz runs a small real dispatch on the devices.",
        ["/healthz", "/readyz"],
    ),
    (
        [
            "How [do|can|could] I [choose|set|change|pick|select] [a plan|the plan|another plan]?",
            "[Which|What] flag [sets|chooses|selects] the plan?",
            "How do I use the split plan?",
            "What does --plan do?",
        ],
        "Choose it at start: tandem up --model PATH --plan split, or another plan's name.",
        ["--plan"],
    ),
    (
        [
            "How [do|can|could] I [choose|set|change|pick|select] the [GPU|NPU|device]?",
            "What [does|is] --gpu[ do| for]?",
            "What [does|is] --npu[ do| for]?",
            "[Which|What] flag chooses the [GPU|NPU|device]?",
        ],
        "Use tandem up with --gpu auto, NAME or none, and --npu cpu, xrt or none.",
        ["--gpu", "--npu"],
    ),
    (
        [
            "[What is|What's] [the demo model|this model|this demo model]?",
            "[Which|What] model [is this|am I talking to|are you]?",
            "How [big|large|small] [are you|is this model|is the demo model]?",
            "How many parameters do you have?",
            "How many layers do you have?",
            "[How|On what] were you trained?",
        ],
        "I am a tiny demo model: a Gemma 3 with about 15 million parameters and 12 layers, trained on generated text so that Tandem can be tried without a download.",
        ["tiny demo model", "15 million"],
    ),
    (
        [
            "[Which|What] files are in the repository?",
            "How is the [repository|code] organised?",
            "What folders does the repository have?",
            "Where is the [code|source] of the [gateway|loader|scheduler|GPU worker]?",
        ],
        "The folders are lib, gateway, loader, gpu-worker, npu-worker, cli, proto, deploy, tests, bench, tools and docs.",
        ["gateway", "loader", "proto"],
    ),
    (
        [
            "What is [a golden test|the golden set|golden data]?",
            "How do you know that Tandem is correct?",
            "How is correctness tested?",
            "Is Tandem [correct|exact]?",
        ],
        "Tandem's logits are compared with those of Hugging Face transformers on golden checkpoints, under every plan.",
        ["transformers"],
    ),
    (
        ["What is the conformance suite?", "How are devices tested?"],
        "The conformance suite runs the same tests over every device: each must equal the float32 reference.",
        ["every device"],
    ),
]
