FROM python:3.11-slim
WORKDIR /opt/tidegauge
COPY requirements.txt pyproject.toml README.md ./
RUN pip install --no-cache-dir -r requirements.txt
COPY schemas ./schemas
COPY detectors ./detectors
COPY service ./service
RUN pip install --no-cache-dir --no-deps . && useradd --system --uid 10001 tidegauge
USER tidegauge
ENTRYPOINT ["tidegauge"]
CMD ["run"]
