/*
 * Carries SofaRequest as SOFARPC does: header map with "service", content = the Hessian object followed by its
 * arguments. Responses need no serializer: SofaResponse is one Hessian object.
 */
package bowline.interop;

import com.alipay.remoting.DefaultCustomSerializer;
import com.alipay.remoting.InvokeContext;
import com.alipay.remoting.exception.DeserializationException;
import com.alipay.remoting.exception.SerializationException;
import com.alipay.remoting.rpc.RequestCommand;
import com.alipay.remoting.rpc.protocol.RpcRequestCommand;
import com.alipay.sofa.rpc.core.request.SofaRequest;
import com.caucho.hessian.io.Hessian2Input;
import com.caucho.hessian.io.Hessian2Output;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.Map;

final class SofaSerializer extends DefaultCustomSerializer {
    @Override
    public <T extends RequestCommand> boolean serializeHeader(T request, InvokeContext context) {
        SofaRequest sofa = (SofaRequest) ((RpcRequestCommand) request).getRequestObject();
        request.setHeader(HeaderMap.encode(Map.of("service", sofa.targetServiceUniqueName)));
        return true;
    }

    @Override
    public <T extends RequestCommand> boolean serializeContent(T request, InvokeContext context)
            throws SerializationException {
        SofaRequest sofa = (SofaRequest) ((RpcRequestCommand) request).getRequestObject();
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try {
            Hessian2Output out = new Hessian2Output(bytes);
            out.writeObject(sofa);
            for (Object argument : sofa.methodArgs) {
                out.writeObject(argument);
            }
            out.close();
        } catch (IOException e) {
            throw new SerializationException("cannot write SofaRequest", e);
        }
        request.setContent(bytes.toByteArray());
        return true;
    }

    @Override
    public <T extends RequestCommand> boolean deserializeContent(T request) throws DeserializationException {
        try {
            Hessian2Input in = new Hessian2Input(new ByteArrayInputStream(request.getContent()));
            SofaRequest sofa = (SofaRequest) in.readObject();
            sofa.methodArgs = new Object[sofa.methodArgSigs.length];
            for (int i = 0; i < sofa.methodArgs.length; i++) {
                sofa.methodArgs[i] = in.readObject();
            }
            in.close();
            ((RpcRequestCommand) request).setRequestObject(sofa);
            return true;
        } catch (IOException e) {
            throw new DeserializationException("cannot read SofaRequest", e);
        }
    }
}
