/*
 * A stock SOFABolt RpcServer whose user processor does what each request asks for (see README.md). It prints one line
 * when it is ready, answers JSON lines on standard input, and ends when standard input ends.
 */
package bowline.interop;

import com.alipay.remoting.AsyncContext;
import com.alipay.remoting.BizContext;
import com.alipay.remoting.Connection;
import com.alipay.remoting.ConnectionEventType;
import com.alipay.remoting.ExtendedNettyChannelHandler;
import com.alipay.remoting.InvokeCallback;
import com.alipay.remoting.config.BoltServerOption;
import com.alipay.remoting.rpc.RpcServer;
import com.alipay.remoting.rpc.protocol.AsyncMultiInterestUserProcessor;
import com.google.gson.JsonObject;
import io.netty.channel.ChannelHandler;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

public final class BoltServer {
    private static final int REPLY_BYTES_MAX = 64 << 20;
    private static final int CALLBACK_TIMEOUT_MS = 3_000;

    private final Wire wire = new Wire();
    private final Set<Connection> connections = ConcurrentHashMap.newKeySet();
    private final AtomicInteger accepted = new AtomicInteger();
    private final AtomicInteger handled = new AtomicInteger();
    private final Map<Integer, Map<Integer, Integer>> oneways = new ConcurrentHashMap<>();
    private final ScheduledExecutorService sleeper = Executors.newScheduledThreadPool(2);
    private final String name;
    private final RpcServer server;

    private BoltServer(Arguments arguments) {
        this.name = arguments.text("name", "java");
        this.server = new RpcServer(arguments.text("address", "127.0.0.1"), arguments.number("port", 0));
    }

    public static void main(String[] args) throws Exception {
        Payload.registerSerializers();
        BoltServer peer = new BoltServer(new Arguments(args));
        peer.start();
        peer.serveStandardInput();
        System.exit(0);
    }

    private void start() {
        server.option(BoltServerOption.EXTENDED_NETTY_CHANNEL_HANDLER, watch());
        server.addConnectionEventProcessor(
                ConnectionEventType.CONNECT,
                (address, connection) -> {
                    accepted.incrementAndGet();
                    connections.add(connection);
                });
        server.addConnectionEventProcessor(
                ConnectionEventType.CLOSE, (address, connection) -> connections.remove(connection));
        server.registerUserProcessor(new Operations());
        server.startup();
        JsonObject ready = new JsonObject();
        ready.addProperty("ready", true);
        ready.addProperty("port", server.port());
        ready.addProperty("peer", "java");
        Lines.print(ready);
    }

    private void serveStandardInput() throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (!line.isBlank()) {
                Lines.print(command(Lines.parse(line)));
            }
        }
    }

    private JsonObject command(JsonObject command) {
        String what = command.get("cmd").getAsString();
        JsonObject answer = new JsonObject();
        answer.addProperty("cmd", what);
        answer.addProperty("ok", true);
        switch (what) {
            case "stats":
                answer.addProperty("accepted", accepted.get());
                answer.addProperty("connections", connections.size());
                answer.addProperty("handled", handled.get());
                answer.add("wire", wire.json());
                break;
            case "close_connections":
                answer.addProperty("closed", connections.size());
                connections.forEach(connection -> connection.getChannel().close());
                break;
            default:
                answer.addProperty("ok", false);
                answer.addProperty("detail", "unknown cmd");
        }
        return answer;
    }

    private ExtendedNettyChannelHandler watch() {
        return new ExtendedNettyChannelHandler() {
            @Override
            public List<ChannelHandler> frontChannelHandlers() {
                return List.of(wire.handler());
            }

            @Override
            public List<ChannelHandler> backChannelHandlers() {
                return List.of();
            }
        };
    }

    private final class Operations extends AsyncMultiInterestUserProcessor<Object> {
        @Override
        public List<String> multiInterest() {
            return Payload.REQUEST_CLASSES;
        }

        @Override
        public void handleRequest(BizContext context, AsyncContext reply, Object request) {
            handled.incrementAndGet();
            Payload payload = Payload.of(request);
            Message message = Payload.read(request);
            switch (message.op) {
                case "echo":
                    reply.sendResponse(payload.reply(message));
                    break;
                case "sleep":
                    sleeper.schedule(
                            () -> reply.sendResponse(payload.reply(message)),
                            message.argument,
                            TimeUnit.MILLISECONDS);
                    break;
                case "error":
                    throw new IllegalStateException(message.text());
                case "bytes":
                    int length = Math.max(0, Math.min(message.argument, REPLY_BYTES_MAX));
                    byte[] body = Message.pattern(message.serial, length);
                    reply.sendResponse(payload.reply(new Message("bytes", message.serial, length, body)));
                    break;
                case "name":
                    reply.sendResponse(payload.reply(new Message("name", message.serial, 0, name)));
                    break;
                case "oneway":
                    oneways.computeIfAbsent(message.argument, key -> new ConcurrentHashMap<>())
                            .merge(message.serial, 1, Integer::sum);
                    break;
                case "count":
                    reply.sendResponse(payload.reply(counted(message)));
                    break;
                case "callback":
                    callBack(context.getConnection(), payload, message, reply);
                    break;
                case "close":
                    context.getConnection().getChannel().close();
                    break;
                case "silent":
                    break;
                default:
                    throw new IllegalArgumentException("unknown op " + message.op);
            }
        }

        /* The argument of the answer is how many came, the body how many of them were different. */
        private Message counted(Message message) {
            Map<Integer, Integer> serials = oneways.getOrDefault(message.argument, Map.of());
            int total = serials.values().stream().mapToInt(Integer::intValue).sum();
            return new Message("count", message.serial, total, Integer.toString(serials.size()));
        }

        private void callBack(Connection connection, Payload payload, Message message, AsyncContext reply) {
            Message call = new Message("called", message.serial, 0, message.body);
            int timeoutMs = message.argument > 0 ? message.argument : CALLBACK_TIMEOUT_MS;
            InvokeCallback answer =
                    new InvokeCallback() {
                        @Override
                        public void onResponse(Object result) {
                            Message answered = Payload.read(result);
                            reply.sendResponse(
                                    payload.reply(new Message("callback", message.serial, 0, answered.body)));
                        }

                        @Override
                        public void onException(Throwable e) {
                            String text = Outcomes.name(e);
                            reply.sendResponse(
                                    payload.reply(new Message("callback_failed", message.serial, 0, text)));
                        }

                        @Override
                        public Executor getExecutor() {
                            return sleeper;
                        }
                    };
            try {
                server.invokeWithCallback(connection, payload.request(call, "client"), answer, timeoutMs);
            } catch (Exception e) {
                answer.onException(e);
            }
        }
    }
}
