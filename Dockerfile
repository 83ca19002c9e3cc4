# For a cluster with NVIDIA GPUs. It was written without Docker at hand: it has been linted, not built.
#
#   docker build -t surgvista .
#   docker run --rm --gpus all --ipc=host -v "$PWD:/work" -v surgvista-cache:/cache surgvista --help
#   docker run --rm --gpus all --ipc=host -v "$PWD:/work" -v surgvista-cache:/cache --entrypoint accelerate surgvista \
#       launch --config_file ddp_8.yaml -m surgvista_hf.trainers.pretrain surgvista_base
#
# --ipc=host: workers hand clips over in shared memory. /work holds frame sets, recipes and runs and must be writable for user 1000;
# /cache holds what comes from the Hub. PyTorch's wheels bring CUDA, so the base needs the driver of the host only.
FROM python:3.11-slim-bookworm

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# FFmpeg's libraries for torchcodec, a compiler for torch.compile, git for the revision that results note.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg g++ git \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 surgeon \
    && install -d -o surgeon -g surgeon /cache /work

WORKDIR /opt/surgvista_hf
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY surgvista_hf ./surgvista_hf
RUN pip install --no-cache-dir -c constraints.txt '.[codec,data,dicom,log,onnx,peft,quant,space,timm]'

ENV HF_HOME=/cache/huggingface \
    TORCH_HOME=/cache/torch \
    XDG_STATE_HOME=/cache/state \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    OMP_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1

USER 1000
WORKDIR /work
VOLUME ["/cache", "/work"]
ENTRYPOINT ["surgvista"]
CMD ["--help"]
