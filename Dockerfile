# By tag as it lies here; `make pin-images` writes the digest behind it, which only the registry knows.
FROM python:3.11-slim
WORKDIR /opt/tidegauge
COPY requirements.txt requirements-build.txt pyproject.toml README.md ./
RUN pip install --no-cache-dir --require-hashes -r requirements-build.txt -r requirements.txt
COPY schemas ./schemas
COPY detectors ./detectors
COPY service ./service
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && pip uninstall --yes uv setuptools && useradd --system --uid 10001 tidegauge
USER tidegauge
ENTRYPOINT ["tidegauge"]
CMD ["run"]
